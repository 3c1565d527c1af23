"""Sizes to which arrays are padded, so that few programs are compiled for many sizes."""

import numpy as np

STEP = 64


def padded_size(count: int) -> int:
    """`count` rounded up to a power of two, or above 64 to a multiple of 64."""
    return -(-count // STEP) * STEP if count > STEP else 1 << max(count - 1, 0).bit_length()


def zero_padded(values: np.ndarray, length: int) -> np.ndarray:
    """The values, padded to `length` with zeros."""
    result = np.zeros((length, *values.shape[1:]), values.dtype)
    result[: len(values)] = values
    return result
