"""Copies between the host and a device through functions that count them.

An accelerator waits for every copy. Stages whose tables stay on the device (`codegraph_jax.similarity.device_tables`)
copy only through these functions, so that a test can limit the number of copies per image.
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
    """Counts of copies.

    Attributes:
        to_device, to_host: number of copies; each copy to the host waits for the device.
        bytes_to_device, bytes_to_host: bytes copied.
        waited: seconds that the host has waited for the device, including copies to the host.
    """

    to_device: int = 0
    to_host: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    waited: float = 0.0


_counted: ContextVar[Transfers | None] = ContextVar("counted", default=None)


@contextmanager
def counting() -> Iterator[Transfers]:
    """Counts the copies within the context."""
    transfers = Transfers()
    token = _counted.set(transfers)
    try:
        yield transfers
    finally:
        _counted.reset(token)


def to_device(values: Any, device: jax.Device) -> Array:
    """A copy of an array or a number on a device."""
    array = np.asarray(values)
    if transfers := _counted.get():
        transfers.to_device += 1
        transfers.bytes_to_device += array.nbytes
    copied: Array = jax.device_put(array, device)
    return copied


def filled(shape: tuple[int, ...], value: float, dtype: Any, device: jax.Device) -> Array:
    """A constant array that is created on the device without a copy."""
    array: Array = _filled(shape, value, np.dtype(dtype), device)()
    return array


@lru_cache(maxsize=64)
def _filled(shape: tuple[int, ...], value: float, dtype: np.dtype, device: jax.Device) -> Any:
    return jax.jit(lambda: jnp.full(shape, value, dtype), out_shardings=SingleDeviceSharding(device))


def to_host(values: Array) -> np.ndarray:
    """A copy of an array in host memory; waits for the device."""
    begin = perf_counter()
    copied = np.asarray(jax.device_get(values))
    if transfers := _counted.get():
        transfers.to_host += 1
        transfers.bytes_to_host += values.nbytes
        transfers.waited += perf_counter() - begin
    return copied


def wait(values: Array) -> None:
    """Waits until the array is computed."""
    begin = perf_counter()
    jax.block_until_ready(values)
    if transfers := _counted.get():
        transfers.waited += perf_counter() - begin
