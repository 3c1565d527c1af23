"""Distances of one new image to reference images, with and without some of their patches.

The distances are those of `codegraph_jax.similarity.pair_distances`, in one direction.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from codegraph_jax.similarity.pair_distances import (
    DistanceOptions,
    PatchSet,
    cosine_maxima,
    cosine_to_distance,
    prepare,
)


def prepare_references(
    normalised: Float[Array, "m p c"], removed: Bool[Array, "m p"], options: DistanceOptions
) -> PatchSet:
    """Prepares one layer of the references, with two penalties: with all patches, and without removed ones."""
    patches = prepare(jnp.asarray(normalised), options)
    valid = patches.penalty[0] if options.masked else jnp.zeros_like(patches.penalty[0])
    return patches._replace(penalty=jnp.stack([valid, jnp.where(removed, -jnp.inf, valid)]))


@partial(jax.jit, static_argnames="options")
def distances_to_references(
    normalised: Float[Array, "p c"], references: PatchSet, options: DistanceOptions
) -> tuple[Float[Array, "r m p"], Float[Array, "r m p"]]:
    """Distance of every patch of an image to every reference (`prepare_references` of the same layer), for each degree.

    Returns:
        Distances to all patches, and to patches that were not removed; infinite if a reference has none left.
    """
    query = prepare(normalised[None], options).select(jnp.asarray(0))

    def one_reference(number: Array) -> Float[Array, "r 2 p"]:
        return cosine_to_distance(cosine_maxima(query, references.select(number), options._replace(masked=True))[0])

    distances = lax.map(one_reference, jnp.arange(references.penalty.shape[1]), batch_size=options.map_batch)
    return distances[:, :, 0].swapaxes(0, 1), distances[:, :, 1].swapaxes(0, 1)
