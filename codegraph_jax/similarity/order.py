"""Order statistics on a device: exact, by bisection, and never by sorting.

Sorting the distances of every patch to hundreds of references moves them through memory dozens of times and wants
another place for them. Counting how many are no greater than a limit reads them once; floating-point numbers compare as
the integers that they are made of, so that 32 counts give the k-th smallest to the last bit, for any k, along any axis
and without a copy.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

SMALLEST, LARGEST = -(2**31), 2**31 - 1


def kth_smallest(
    values: Float[Array, "..."], k: Int[Array, "..."], axis: int, counted: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """The k-th smallest of the counted values along an axis, which stays with length 1.

    Args:
        values: float32, none of them NaN.
        k: from 1; broadcasts to the result.
        axis: of the values.
        counted: which of them take part; broadcasts to them.

    Returns:
        Infinite where fewer than k are counted.
    """
    keys = jnp.where(counted, _keys(values), LARGEST)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        # the mean, rounded down, without an overflow
        middle = (low & high) + ((low ^ high) >> 1)
        enough = (keys <= middle).sum(axis=axis, keepdims=True, dtype=jnp.int32) >= k
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    shape = values.shape[:axis] + (1,) + values.shape[axis + 1 :]
    _, found = lax.fori_loop(0, 32, halve, (jnp.full(shape, SMALLEST, jnp.int32), jnp.full(shape, LARGEST, jnp.int32)))
    return jnp.where(found == LARGEST, jnp.inf, _values(found))


def mean_of_smallest(
    values: Float[Array, "..."], k: Int[Array, ""], axis: int, counted: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """Mean of the k smallest finite counted values along an axis; of all where fewer are, infinite where none is.

    Arguments as for `kth_smallest`; the axis is gone.
    """
    counted = counted & jnp.isfinite(values)
    count = jnp.minimum(counted.sum(axis=axis, keepdims=True, dtype=jnp.int32), k)
    last = kth_smallest(values, jnp.maximum(count, 1), axis, counted)
    below = counted & (values < last)
    total = jnp.where(below, values, 0.0).sum(axis=axis, keepdims=True)
    # the last one counts as often as it takes to make k
    total += (count - below.sum(axis=axis, keepdims=True, dtype=jnp.int32)) * jnp.where(count > 0, last, 0.0)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.inf).squeeze(axis)


def _keys(values: Float[Array, "..."]) -> Int[Array, "..."]:
    """Integers that are ordered as the numbers are."""
    bits = lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ LARGEST, bits)


def _values(keys: Int[Array, "..."]) -> Float[Array, "..."]:
    return lax.bitcast_convert_type(jnp.where(keys < 0, keys ^ LARGEST, keys), jnp.float32)
