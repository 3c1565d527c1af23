"""What a device does to tables that stay on it (`similarity.device_tables`): each function is one program."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.similarity.order import mean_of_smallest
from codegraph_jax.similarity.rows import TIE
from codegraph_jax.similarity.schedule import PAIRS, whole_batches
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, pair_distances
from codegraph_jax.similarity.valid import INVALID

TOGETHER = 32
"""Images that are scored at once: a copy of their distances exists meanwhile."""


def pairs_of_a_turn(options: TileOptions) -> int:
    """Pairs of one turn of the loop: a GPU asks the host before each whether there is another."""
    return whole_batches(PAIRS, 1 if options.radius else options.batch)


@partial(jax.jit, static_argnames="options", donate_argnums=0)
def refill_table(
    table: Float[Array, "r s t p"],
    own: PatchSet,
    others: PatchSet,
    removed: Bool[Array, "q p"],
    losing: Int[Array, "t 2"],
    numbers: Int[Array, "3"],
    options: TileOptions,
) -> tuple[Float[Array, "r s t p"], Int[Array, ""]]:
    """Distances of images to references that lose patches, written where they have grown.

    Args:
        own: the images.
        others: images of which some are the references.
        removed: patches that these lose.
        losing: the references: which of the others, and their columns.
        numbers: the stretch of pairs (reference, image), image by image of each reference; and how many images there
            are.

    Returns:
        The table, and how many turns it took, which can be waited for.
    """
    right = others._replace(penalty=jnp.where(removed[None], -jnp.inf, others.penalty))

    def write(places: Array, table: Array) -> Array:
        (reference, column), image = losing[places // numbers[2]].T, places % numbers[2]
        distances = pair_distances(own, right, image, reference, options)[0].swapaxes(0, 1)
        old = table[:, image, column]
        # equal but for rounding: the nearest was not removed
        grown = (jnp.square(distances) > jnp.square(old) + TIE) & jnp.isfinite(old) & (old >= 0)
        return table.at[:, image, column].set(jnp.where(grown, distances, old), mode="drop")

    step = pairs_of_a_turn(options)
    turns = (numbers[1] - numbers[0] + step - 1) // step

    def turn(number: Array, table: Array) -> Array:
        # the last turn repeats a place to be full
        return write(jnp.minimum(numbers[0] + number * step + jnp.arange(step), numbers[1] - 1), table)

    return lax.fori_loop(0, turns, turn, table), turns


@jax.jit
def table_scores(
    table: Float[Array, "r s t p"], k: Int[Array, ""], serves: Bool[Array, "s t"]
) -> Float[Array, "r s p"]:
    def of_image(given: tuple[Array, Array]) -> Array:
        distances, serving = given
        return mean_of_smallest(distances, k, 0, serving[:, None])

    # one degree after the other: what is made of a part of it is small
    return lax.map(lambda degree: lax.map(of_image, (degree, serves), batch_size=TOGETHER), table)


@partial(jax.jit, donate_argnums=0)
def add(total: Float[Array, "s t p"], table: Float[Array, "r s t p"]) -> Float[Array, "s t p"]:
    for degree in table:
        total = total + degree
    return total


@partial(jax.jit, donate_argnums=0)
def divide(total: Float[Array, "s t p"], count: Float[Array, ""]) -> Float[Array, "s t p"]:
    return total / count


@jax.jit
def bar(table: Float[Array, "r s t p"], columns: Bool[Array, " t"], patches: Bool[Array, "s p"]) -> Array:
    return jnp.where(columns[:, None] & patches[:, None, :], jnp.inf, table)


@partial(jax.jit, donate_argnums=0)
def mark(table: Float[Array, "r s t p"], judged: Bool[Array, "s p"]) -> Array:
    return jnp.where(judged[:, None, :], table, INVALID)
