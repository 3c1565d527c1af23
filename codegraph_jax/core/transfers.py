"""Copies between the host and a device, each through a function that counts it.

What a stage sends for every image or every pair is what an accelerator waits for. The stages whose numbers stay on the
device (`similarity.device_tables`) therefore copy by these two functions alone, so that a test can compare the number
of copies for few and for many images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array


@dataclass
class Transfers:
    """Copies so far.

    Attributes:
        to_device, to_host: how many; each of the latter waits for the device.
        bytes_to_device, bytes_to_host: their size.
        waited: seconds that the host has waited for the device, copies included.
    """

    to_device: int = 0
    to_host: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    waited: float = 0.0


_counted: ContextVar[Transfers | None] = ContextVar("counted", default=None)


@contextmanager
def counting() -> Iterator[Transfers]:
    """Inside, copies are counted."""
    transfers = Transfers()
    token = _counted.set(transfers)
    try:
        yield transfers
    finally:
        _counted.reset(token)


def to_device(values: Any, device: jax.Device) -> Array:
    """A copy of an array, or a number, on a device."""
    array = np.asarray(values)
    if transfers := _counted.get():
        transfers.to_device += 1
        transfers.bytes_to_device += array.nbytes
    copied: Array = jax.device_put(array, device)
    return copied


def filled(shape: tuple[int, ...], value: float, dtype: Any, device: jax.Device) -> Array:
    """An array of one value that is made on a device: nothing is copied."""
    array: Array = _filled(shape, value, np.dtype(dtype), device)()
    return array


@lru_cache(maxsize=64)
def _filled(shape: tuple[int, ...], value: float, dtype: np.dtype, device: jax.Device) -> Any:
    return jax.jit(lambda: jnp.full(shape, value, dtype), out_shardings=SingleDeviceSharding(device))


def to_host(values: Array) -> np.ndarray:
    """A copy of an array in the memory of the host, which waits for it."""
    begin = perf_counter()
    copied = np.asarray(jax.device_get(values))
    if transfers := _counted.get():
        transfers.to_host += 1
        transfers.bytes_to_host += values.nbytes
        transfers.waited += perf_counter() - begin
    return copied


def wait(values: Array) -> None:
    """Waits until an array is computed."""
    begin = perf_counter()
    jax.block_until_ready(values)
    if transfers := _counted.get():
        transfers.waited += perf_counter() - begin
