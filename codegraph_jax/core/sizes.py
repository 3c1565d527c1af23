"""Sizes that arrays are padded to, so that few programs are compiled for many sizes."""

STEP = 64


def padded(count: int) -> int:
    """The next power of two up to 64, beyond it the next multiple of 64."""
    return -(-count // STEP) * STEP if count > STEP else 1 << max(count - 1, 0).bit_length()
