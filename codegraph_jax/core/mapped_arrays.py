"""Arrays in memory, or in memory-mapped files.

A mapped array is read and written like any other; the operating system keeps the pages that are in use in memory. The
files have no name, so nothing stays on disk when the process ends. Results do not depend on where an array is stored.
"""

import errno
import math
import os
import tempfile
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.settings import ConfigError


class Allocate(Protocol):
    """A function that allocates an array with undefined content."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of this shape and type."""


def in_memory(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array in memory with undefined content."""
    return np.empty(shape, dtype)


def mapped(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array with undefined content in a memory-mapped temporary file, in TMPDIR.

    Raises:
        ConfigError: the disk is full, or the directory cannot be written.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return in_memory(shape, dtype)  # an empty file cannot be mapped
    try:
        with tempfile.TemporaryFile(prefix="codegraph-") as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise ConfigError(
            f"TMPDIR: {size / GIB:.1f} GiB cannot be written to {tempfile.gettempdir()!r}: {error.strerror or error}"
        ) from None


def _reserve(file: int, size: int) -> None:
    """Reserves disk space: writing to a map on a full disk would kill the process.

    Raises:
        OSError: the disk is full.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        # some file systems cannot reserve space
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL):
            raise
