"""Distances of one new image to reference images from which some patches were removed.

The same numbers as the tiles give (`codegraph_jax.similarity.tiles`), in one direction, and besides with the removed
patches left out.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from codegraph_jax.core.matmul import inner_products
from codegraph_jax.similarity.tiles import (
    PatchSet,
    TileOptions,
    box_sums,
    cosine_to_distance,
    prepare,
)
from codegraph_jax.similarity.windows import window_maxima


class ReferencePatches(NamedTuple):
    """One layer of R reference images.

    Attributes:
        patches: as `tiles.prepare` makes them.
        penalty: 0, or minus infinity where a patch was removed [R, p].
    """

    patches: PatchSet
    penalty: Float[Array, "R p"]


def query_options(options: TileOptions) -> TileOptions:
    """`reuse` stays; every other kernel becomes `direct`, which gives its numbers."""
    return options if options.kernel == "reuse" else options._replace(kernel="direct")


def prepare_references(
    normalised: Float[Array, "R p c"], removed: Bool[Array, "R p"], options: TileOptions
) -> ReferencePatches:
    """Brings one layer of the references into the form that `distances_to_references` reads."""
    return ReferencePatches(prepare(jnp.asarray(normalised), options), jnp.where(removed, -jnp.inf, 0.0))


@partial(jax.jit, static_argnames="options")
def distances_to_references(
    normalised: Float[Array, "p c"], references: ReferencePatches, options: TileOptions
) -> tuple[Float[Array, "r R p"], Float[Array, "r R p"]]:
    """Distance of every patch of an image to every reference, for each degree.

    Args:
        normalised: patch tokens of one layer, see `features.normalise`.
        references: of the same layer.
        options: as for `prepare_references`.

    Returns:
        (to all patches, to those that were not removed); infinite where a reference has none left.
    """
    query = prepare(normalised[None], options).of(jnp.asarray(0))
    patches, penalties = references

    def one_reference(number: Array) -> tuple[Array, Array]:
        reference, penalty = patches.of(number), penalties[number]
        full, left = [], []
        if options.radius:
            kinds = jnp.stack([reference.penalty[0], reference.penalty[0] + penalty])
            for a, b in zip(query.vectors, reference.vectors):
                (to_all, to_left), _ = window_maxima(
                    a, b, query.penalty[0], kinds, options.grid, options.radius, options.precision, options.batch
                )
                full.append(to_all)
                left.append(to_left)
            return cosine_to_distance(jnp.stack(full)), cosine_to_distance(jnp.stack(left))
        if options.kernel == "reuse":
            tile = inner_products(query.vectors[0], reference.vectors[0], options.precision)
            sums = box_sums(tile.reshape(*options.grid, *options.grid), options.degrees)
        for k in range(len(options.degrees)):
            if options.kernel == "reuse":
                cosines = sums[k].reshape(tile.shape) * query.scales[k][:, None] * reference.scales[k][None, :]
            else:
                cosines = inner_products(query.vectors[k], reference.vectors[k], options.precision)
            if options.masked:
                cosines = cosines + reference.penalty
            full.append(cosines.max(axis=1))
            left.append((cosines + penalty[None, :]).max(axis=1))
        return cosine_to_distance(jnp.stack(full)), cosine_to_distance(jnp.stack(left))

    batched = options.batch > 1 and not options.radius
    numbers = jnp.arange(len(penalties))
    full, left = lax.map(one_reference, numbers, batch_size=options.batch if batched else None)
    return full.swapaxes(0, 1), left.swapaxes(0, 1)
