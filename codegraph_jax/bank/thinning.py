"""Selects the patches of a compact bank [ours].

Greedy k-centre selection (Gonzalez 1985; for patch features PatchCore, arXiv:2106.08265, section 3.2) adds the patch
that is farthest from all selected ones. Here every patch has its own score, and the next patch is the one whose score
the pool would overestimate most: min over selected y of |x - y|^2 + s(y)^2, minus s(x)^2. An isolated patch has a high
score itself and gains little. Comparison with plain k-centre: benchmarks/log/line.md, "Compact bank".
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegraph_jax.core.matmul import inner_products

DIMENSIONS = 128
"""Dimensions of the random projection before the selection (Johnson and Lindenstrauss; as in PatchCore)."""
SHORTLIST, TAKEN_PER_ROUND = 1024, 8
"""Each round reads all patches once, and selects TAKEN_PER_ROUND of the SHORTLIST most overestimated ones. With 1 per
round the selection is exactly greedy."""


def projected(vectors: Float[np.ndarray, "l r k c"]) -> Float[np.ndarray, "k e"]:
    """Vectors of k patches: all layers and degrees concatenated, then projected; distances are those of a mean."""
    layers, degrees, count, channels = vectors.shape
    width = layers * degrees * channels
    rows = vectors.transpose(2, 0, 1, 3).reshape(count, width)
    return rows @ (_projection(width) / np.float32(np.sqrt(layers * degrees)))


@cache
def _projection(width: int) -> Float[np.ndarray, "d e"]:
    """A random projection that approximately preserves distances of vectors of `width` numbers."""
    drawn: np.ndarray = np.random.default_rng(0).standard_normal((width, min(width, DIMENSIONS)))
    return np.asarray(drawn / np.sqrt(drawn.shape[1]), np.float32)


def thin(
    vectors: Float[np.ndarray, "m e"], squares: Float[np.ndarray, " m"], max_patches: int
) -> Int[np.ndarray, " k"]:
    """Indices of at most `max_patches` selected patches, the one with the least score first.

    `squares` has the squared score of each patch, in the unit of the squared distances of the vectors, which may be
    projected.
    """
    if len(vectors) <= max_patches:
        return np.argsort(squares, kind="stable")
    if max_patches == 1:
        return np.array([np.argmin(squares)])
    rounds = -(-(max_patches - 1) // TAKEN_PER_ROUND)
    return np.asarray(_thin(jnp.asarray(vectors), jnp.asarray(squares, jnp.float32), rounds))[:max_patches]


@partial(jax.jit, static_argnames="rounds")
def _thin(vectors: Float[Array, "m e"], squares: Float[Array, " m"], rounds: int) -> Int[Array, " k"]:
    lengths = jnp.square(vectors).sum(axis=1)
    count = min(SHORTLIST, len(squares))

    def costs(chosen: Int[Array, " t"]) -> Float[Array, "m t"]:
        """Squared score of each patch by each of the chosen ones."""
        products = inner_products(vectors, vectors[chosen], "float32")
        return jnp.maximum(lengths[:, None] + lengths[chosen] - 2 * products, 0) + squares[chosen]

    def one_round(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        best, kept, kept_count = state
        excess, shortlisted = lax.top_k(best - squares, count)
        candidates, own_lengths, own_squares = vectors[shortlisted], lengths[shortlisted], squares[shortlisted]
        products = inner_products(candidates, candidates, "float32")
        distances = jnp.maximum(own_lengths[:, None] + own_lengths - 2 * products, 0)
        excess_after = distances + (own_squares - own_squares[:, None])

        def take(number: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            excess, taken = state
            index = jnp.argmax(excess)
            excess = jnp.minimum(excess, excess_after[:, index]).at[index].set(-jnp.inf)
            return excess, taken.at[number].set(shortlisted[index])

        _, taken = lax.fori_loop(0, TAKEN_PER_ROUND, take, (excess, jnp.zeros(TAKEN_PER_ROUND, shortlisted.dtype)))
        best = jnp.minimum(best, costs(taken).min(axis=1)).at[taken].set(-jnp.inf)
        kept = lax.dynamic_update_slice(kept, taken, (kept_count,))
        return best, kept, kept_count + TAKEN_PER_ROUND

    first = jnp.argmin(squares)
    best = costs(first[None])[:, 0].at[first].set(-jnp.inf)
    kept = jnp.zeros(1 + rounds * TAKEN_PER_ROUND, first.dtype).at[0].set(first)
    _, kept, _ = lax.fori_loop(0, rounds, one_round, (best, kept, jnp.asarray(1)))
    return jnp.asarray(kept)
