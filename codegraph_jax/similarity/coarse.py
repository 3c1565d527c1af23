"""A coarse pass: the nearest patch is looked for in a few channels, and its distance computed in all of them. [ours]

Tokens come with their channels in the order of what they hold (`codegraph_jax.similarity.subspace`), so that the first
few tell well which patch of an image is nearest, though not how near. Only for that one the other channels are needed:
of P x P products in C channels remain those in d, and 2 P in C. A distance is never smaller than the exact one, and
equal to it wherever the nearest patch was found. BENCHMARKS.md, "A coarse pass", holds accuracy against time.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from codegraph_jax.core.products import inner_products
from codegraph_jax.features.aggregation import from_bits

LEAST, MOST = 1e-6, 8.0
"""Squared distances are looked at between these: normal numbers, the upper one farther than any two unit vectors."""


def nearest(cosines: Float[Array, "a b"], axis: int) -> Int[Array, " k"]:
    """Where the greatest cosine lies along an axis, but for differences of the squared distance in its last bits.

    The place takes the last bits of the number, so that one minimum finds both: of 1,369 patches squared distances are
    told apart to 1 in 4,096. XLA's `argmin` takes ten times as long on CPUs.
    """
    squared = jnp.clip(2.0 - 2.0 * cosines, LEAST, MOST)
    place = (1 << (cosines.shape[axis] - 1).bit_length()) - 1
    bits = lax.bitcast_convert_type(squared, jnp.int32) & ~place
    keys = lax.bitcast_convert_type(bits | lax.broadcasted_iota(jnp.int32, cosines.shape, axis), jnp.float32)
    return lax.bitcast_convert_type(keys.min(axis=axis), jnp.int32) & place


def tile_maxima(
    left: Sequence[Shaped[Array, "n p c"]],
    right: Sequence[Shaped[Array, "m p c"]],
    few: Sequence[tuple[Shaped[Array, "n p d"], Shaped[Array, "m p d"]]],
    first: Int[Array, ""],
    second: Int[Array, ""],
    penalties: tuple[Float[Array, " p"], Float[Array, " p"]] | None,
    precision: str,
) -> tuple[Float[Array, "r p"], Float[Array, "r p"]]:
    """Cosine of each patch of one image with the patch of the other that is nearest in few channels, both ways.

    Args:
        left, right: unit vectors of each degree, as `features.as_bits` gives them.
        few: their first channels.
        first, second: which of the left images meets which of the right ones.
        penalties: of the two images: 0, or minus infinity where a patch does not count; None: all do.
        precision: of the products in few channels; the others are float32.
    """
    rows, columns = [], []
    for a, b, (few_a, few_b) in zip(left, right, few):
        cosines = inner_products(from_bits(few_a[first]), from_bits(few_b[second]), precision)
        if penalties:
            cosines = cosines + penalties[0][:, None] + penalties[1][None, :]
        of_rows, of_columns = nearest(cosines, axis=1), nearest(cosines, axis=0)
        found = _products(a, b, first, second, of_rows), _products(b, a, second, first, of_columns)
        if penalties:
            mine, theirs = penalties
            found = found[0] + mine + theirs[of_rows], found[1] + theirs + mine[of_columns]
        rows.append(found[0])
        columns.append(found[1])
    return jnp.stack(rows), jnp.stack(columns)


def _products(
    vectors: Shaped[Array, "n p c"],
    others: Shaped[Array, "m q c"],
    image: Int[Array, ""],
    other: Int[Array, ""],
    places: Int[Array, " p"],
) -> Float[Array, " p"]:
    """Of each patch of an image with a chosen one of the other; read where they are, since a copy takes as long."""
    channels, size = vectors.shape[2], others.shape[1]
    chosen = others.reshape(-1, channels).at[other * size + places].get(mode="promise_in_bounds")
    return (from_bits(vectors[image]).astype(jnp.float32) * from_bits(chosen).astype(jnp.float32)).sum(axis=-1)
