"""Work on host arrays in threads and in chunks, and padded arrays."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Int

T = TypeVar("T")
R = TypeVar("R")

GIB = 2**30

CPU_THREADS = 4
"""Threads for NumPy's sort and partition, which release the GIL; more threads only compete for memory bandwidth."""

COPIED_BYTES = 2**27
"""Bytes of a table or of features that a stage copies at once; results do not depend on it."""

PADDING_STEP = 64
"""Above this size, arrays are padded to multiples of it."""


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results of a function for all items, computed in `CPU_THREADS` threads."""
    with ThreadPoolExecutor(CPU_THREADS) as pool:
        return list(pool.map(function, items))


def evenly(count: int, most: int) -> Int[np.ndarray, " k"]:
    """Indices of at most `most` of `count` items, evenly spaced; the first and the last are among them."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def arrays_at_once(size: int) -> int:
    """Number of arrays of `size` bytes that a stage copies at once; at least one."""
    return max(1, COPIED_BYTES // size)


def padded_size(count: int) -> int:
    """`count` rounded up to a power of two, or above 64 to a multiple of 64."""
    return -(-count // PADDING_STEP) * PADDING_STEP if count > PADDING_STEP else 1 << max(count - 1, 0).bit_length()


def zero_padded(values: np.ndarray, length: int) -> np.ndarray:
    """The values, padded to `length` with zeros."""
    result = np.zeros((length, *values.shape[1:]), values.dtype)
    result[: len(values)] = values
    return result
