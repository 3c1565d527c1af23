"""Large arrays of the host: how much of one is copied at once, and those that live in mapped files.

A mapped array is read and written like any other; the system keeps the pages that are in use and drops the rest. The
files have no name, so nothing stays on disk when a run ends, however it ends. Numbers are the same either way.
"""

import errno
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from codegraph_jax.core.settings import ConfigError

GIB = 2**30

CPU_THREADS = 4
"""Sorting and partitioning in numpy release the interpreter; more threads than this wait for memory."""

COPIED_BYTES = 2**27
"""Bytes of a table or of features that a stage copies at once."""


_copied: ContextVar[int] = ContextVar("copied", default=COPIED_BYTES)


@contextmanager
def copying(size: int) -> Iterator[None]:
    """Inside, stages copy at most `size` bytes at once instead of `COPIED_BYTES`; no number depends on it."""
    token = _copied.set(size)
    try:
        yield
    finally:
        _copied.reset(token)


def at_once(size: int) -> int:
    """Images of `size` bytes each that a stage copies at once: `COPIED_BYTES` in all, or one image."""
    return max(1, _copied.get() // size)


class Allocate(Protocol):
    """Gives an array of a shape and type; its content is undefined."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray: ...


def in_memory(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An ordinary array."""
    return np.empty(shape, dtype)


def mapped(shape: tuple[int, ...], dtype: DTypeLike = np.float32, directory: str = "") -> np.ndarray:
    """An array in a nameless file.

    Args:
        shape: of the array.
        dtype: of the array.
        directory: of the file; empty: the system's, as TMPDIR says.

    Raises:
        ConfigError: there is no room, as `config.storage.directory`.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=directory or None, prefix="codegraph-") as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise ConfigError(
            f"config.storage.directory: {size / GIB:.1f} GiB cannot be written to "
            f"{directory or tempfile.gettempdir()!r}: {error.strerror or error}"
        ) from None


def _reserve(file: int, size: int) -> None:
    """Takes the room of a file on its disk: one that fills up later would kill the process that writes to the map.

    Raises:
        OSError: there is no room.
    """
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        # some file systems cannot reserve
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL):
            raise
