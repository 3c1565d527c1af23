"""Compiled operations on tables of distances that stay on a device (`similarity.device_tables`)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.similarity.distance_update import TIE
from codegraph_jax.similarity.order_statistics import mean_of_smallest
from codegraph_jax.similarity.pair_distances import DistanceOptions, PatchSet, pair_distances
from codegraph_jax.similarity.schedule import PAIRS_PER_CALL, whole_products
from codegraph_jax.similarity.valid import INVALID

IMAGES_AT_ONCE = 32
"""Images that are scored at once; scoring copies their distances."""


def pairs_per_iteration(options: DistanceOptions) -> int:
    """Pairs in one iteration of the loop of `update_references`; before each, a GPU waits for the host."""
    return whole_products(PAIRS_PER_CALL, options.pairs_per_product)


@partial(jax.jit, static_argnames="options", donate_argnums=0)
def update_references(
    table: Float[Array, "r s t p"],
    own: PatchSet,
    others: PatchSet,
    removed: Bool[Array, "q p"],
    reduced: Int[Array, "t 2"],
    pairs: Int[Array, "3"],
    options: DistanceOptions,
) -> tuple[Float[Array, "r s t p"], Int[Array, ""]]:
    """Updates the distances of images to references that lose patches; the memory of the table is reused.

    `others` are images that include the references, and `removed` the patches that they lose; `reduced` has the index
    among the others, and the column in the table, of each such reference. `pairs` has the first pair and the end of the
    pairs to compute, and the number of images, where pair i * images + j is the i-th reference with image j.

    Returns:
        The table, and the number of iterations, a small result to wait for.
    """
    first, end, images = pairs
    right = others._replace(penalty=jnp.where(removed[None], -jnp.inf, others.penalty))

    def write(numbers: Array, table: Array) -> Array:
        (reference, column), image = reduced[numbers // images].T, numbers % images
        distances = pair_distances(own, right, image, reference, options)[0].swapaxes(0, 1)
        old = table[:, image, column]
        # a difference within rounding means that the nearest patch was not removed
        grown = (jnp.square(distances) > jnp.square(old) + TIE) & jnp.isfinite(old) & (old >= 0)
        return table.at[:, image, column].set(jnp.where(grown, distances, old), mode="drop")

    step = pairs_per_iteration(options)
    iterations = (end - first + step - 1) // step

    def iterate(number: Array, table: Array) -> Array:
        # the last iteration repeats its last pair, so that all have the same size
        return write(jnp.minimum(first + number * step + jnp.arange(step), end - 1), table)

    return lax.fori_loop(0, iterations, iterate, table), iterations


@jax.jit
def table_scores(table: Float[Array, "r s t p"], k: Int[Array, ""], used: Bool[Array, "s t"]) -> Float[Array, "r s p"]:
    """Mutual scores: the mean of the k smallest distances of each patch to the references used for its image."""

    def of_image(given: tuple[Array, Array]) -> Array:
        distances, references = given
        return mean_of_smallest(distances, k, references[:, None])

    # some images of one degree at once, so that intermediate arrays are small
    return lax.map(lambda degree: lax.map(of_image, (degree, used), batch_size=IMAGES_AT_ONCE), table)


@partial(jax.jit, donate_argnums=0)
def add(total: Float[Array, "s t p"], table: Float[Array, "r s t p"]) -> Float[Array, "s t p"]:
    """Adds the distances of all degrees to `total`, whose memory is reused."""
    for degree in table:
        total = total + degree
    return total


@partial(jax.jit, donate_argnums=0)
def divide(total: Float[Array, "s t p"], count: Float[Array, ""]) -> Float[Array, "s t p"]:
    """Divides the sum of distances by their number; the memory of `total` is reused."""
    return total / count


@jax.jit
def mask_references(table: Float[Array, "r s t p"], columns: Bool[Array, " t"], patches: Bool[Array, "s p"]) -> Array:
    """A copy of the table with infinite distances of some patches to some references."""
    return jnp.where(columns[:, None] & patches[:, None, :], jnp.inf, table)


@partial(jax.jit, donate_argnums=0)
def marked_invalid(table: Float[Array, "r s t p"], inspected: Bool[Array, "s p"]) -> Array:
    """The table with `INVALID` for patches that are not inspected; the memory of `table` is reused."""
    return jnp.where(inspected[:, None, :], table, INVALID)
