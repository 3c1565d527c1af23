"""Exact order statistics on a device, by bisection.

Sorting the distances of every patch to hundreds of references would move them through memory dozens of times and need a
copy of them. Counting the values up to a limit reads them once. Floating-point numbers are ordered like the integers
with the same bits, so 32 counts give the k-th smallest value exactly, for any k and along any axis.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

MIN_KEY, MAX_KEY = -(2**31), 2**31 - 1


def kth_smallest(
    values: Float[Array, "..."], k: Int[Array, "..."], axis: int, counted: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """The k-th smallest of the counted values along an axis, which is kept; infinite where fewer are counted.

    `values` are float32 without NaN; the rank k, from 1, broadcasts to the result, and `counted` to the values.
    """
    keys = jnp.where(counted, _keys(values), MAX_KEY)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        # the mean, rounded down, without an overflow
        middle = (low & high) + ((low ^ high) >> 1)
        enough = (keys <= middle).sum(axis=axis, keepdims=True, dtype=jnp.int32) >= k
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    shape = values.shape[:axis] + (1,) + values.shape[axis + 1 :]
    _, key = lax.fori_loop(0, 32, halve, (jnp.full(shape, MIN_KEY, jnp.int32), jnp.full(shape, MAX_KEY, jnp.int32)))
    return jnp.where(key == MAX_KEY, jnp.inf, _values(key))


def mean_of_smallest(
    values: Float[Array, "m ..."], k: Int[Array, ""], counted: Bool[Array, "m ..."]
) -> Float[Array, "..."]:
    """Mean of the k smallest finite counted values along the first axis, which is removed.

    It is the mean of all finite values if they are fewer, and infinite if there are none.
    """
    counted = counted & jnp.isfinite(values)
    count = jnp.minimum(counted.sum(axis=0, keepdims=True, dtype=jnp.int32), k)
    last = kth_smallest(values, jnp.maximum(count, 1), 0, counted)
    below = counted & (values < last)
    total = jnp.where(below, values, 0.0).sum(axis=0, keepdims=True)
    # the k-th value may occur several times: count it as often as is needed for k values
    total += (count - below.sum(axis=0, keepdims=True, dtype=jnp.int32)) * jnp.where(count > 0, last, 0.0)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.inf).squeeze(0)


def _keys(values: Float[Array, "..."]) -> Int[Array, "..."]:
    """Integers in the same order as the numbers."""
    bits = lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ MAX_KEY, bits)


def _values(keys: Int[Array, "..."]) -> Float[Array, "..."]:
    return lax.bitcast_convert_type(jnp.where(keys < 0, keys ^ MAX_KEY, keys), jnp.float32)
