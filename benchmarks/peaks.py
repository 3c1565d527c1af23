"""Peak speeds of the machine, measured in the same run: a large matrix product and a large copy."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
from jaxtyping import Array

from codegraph_jax.core.matmul import inner_products
from codegraph_jax.core.timing import interleaved

SIDE = {"cpu": 1440}
"""Side of the matrices: on CPUs the fastest size, which fits into caches; accelerators need larger ones."""

COPIED_BYTES = 1 << 28


@lru_cache
def large_product(precision: str) -> tuple[Callable[[], Array], float]:
    """A square matrix product with the kernel's precision and float32 sums, and its number of operations."""
    side = SIDE.get(jax.default_backend(), 8192)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    a, b = (jax.random.normal(jax.random.key(k), (side, side), dtype) for k in range(2))
    product = jax.jit(lambda a, b: inner_products(a, b.T, precision))
    return lambda: product(a, b), 2.0 * side**3


@lru_cache
def product_peak(precision: str, repeats: int = 5) -> float:
    """FLOP/s of `large_product`."""
    product, flop = large_product(precision)
    return flop / interleaved({"product": product}, repeats)["product"].seconds


@lru_cache
def copy_peak(repeats: int = 5) -> float:
    """Bytes per second, read and written, of a copy larger than the caches."""
    source = jnp.ones(COPIED_BYTES // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    time = interleaved({"copy": lambda: copy(source)}, repeats)["copy"].seconds
    return 2.0 * COPIED_BYTES / time
