"""Explicit copies between the host and a device.

An accelerator waits for every copy. Stages whose tables stay on the device (`codegraph_jax.similarity.device_tables`)
copy only through these functions, so that a test can limit the number of copies per image.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array


def to_device(values: Any, device: jax.Device) -> Array:
    """A copy of an array or a number on a device."""
    copied: Array = jax.device_put(np.asarray(values), device)
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
    return np.asarray(jax.device_get(values))
