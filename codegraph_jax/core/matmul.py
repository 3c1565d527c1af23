"""Matrix products with explicit precision: the default on GPUs is TF32 for float32 inputs."""

from functools import lru_cache
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def product_precision(precision: str) -> lax.Precision:
    """XLA's precision for `float32`, `tf32` or `bfloat16`.

    HIGHEST is float32 on all devices; HIGH is TF32 on GPUs, three bfloat16 passes on TPUs, float32 on CPUs.
    """
    return {
        "float32": lax.Precision.HIGHEST,
        "tf32": lax.Precision.HIGH,
        "bfloat16": lax.Precision.DEFAULT,
    }[precision]


def inner_products(left: Float[Array, "a c"], right: Float[Array, "b c"], precision: str) -> Float[Array, "a b"]:
    """Inner products of every row of `left` with every row of `right`, accumulated in float32."""
    contract_channels = (((1,), (1,)), ((), ()))
    return lax.dot_general(
        left, right, contract_channels, precision=product_precision(precision), preferred_element_type=jnp.float32
    )


ROWS, CHANNELS, CALLS = 1024, 768, 3
MAX_ERROR = 0.05
"""Largest error of an inner product of unit vectors in any precision; rounding to bfloat16 stays below 0.01."""


@lru_cache(maxsize=4)
def measured_flop_rate(precision: str) -> float:
    """Floating-point operations per second of plain products on one device, measured.

    Raises:
        FloatingPointError: the products are wrong.
    """
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(ROWS, CHANNELS)).astype(np.float32) for _ in range(2)]
    left, right = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in rows)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    operands = jnp.asarray(left, dtype), jnp.asarray(right, dtype)
    function = jax.jit(inner_products, static_argnames="precision")
    if not np.abs(np.asarray(function(*operands, precision=precision)) - left @ right.T).max() < MAX_ERROR:
        raise FloatingPointError(f"products in {precision} are wrong on this {jax.devices()[0].device_kind}")
    best = float("inf")
    for _ in range(CALLS):
        begin = perf_counter()
        jax.block_until_ready(function(*operands, precision=precision))
        best = min(best, perf_counter() - begin)
    return 2.0 * ROWS * ROWS * CHANNELS / best
