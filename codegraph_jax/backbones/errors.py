"""The error of weights that cannot be used."""


class WeightsError(ValueError):
    """A checkpoint cannot be found or read, or does not match the preset."""
