"""What goes wrong with weights."""


class CheckpointError(ValueError):
    """A checkpoint cannot be found or read, or is not the one that the preset needs."""
