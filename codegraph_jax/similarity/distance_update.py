"""Updates distances to reference images that lose patches.

A distance changes only if a removed patch was the nearest. Most patches are ruled out by their distances to a few
centres of the removed patches (triangle inequality). For the others, the distances to the removed patches are computed;
if one of these is as close as the nearest patch was, the distance to the remaining patches is computed.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import evenly, in_threads
from codegraph_jax.core.matmul import inner_products
from codegraph_jax.similarity.pair_distances import cosine_to_distance

TIE = 4e-6
"""Squared distances this close count as equal, since kernels round differently."""

CENTRES, SAMPLE, STEPS = 32, 4096, 5
"""Number of centres of the removed patches, of patches they are computed from, and of steps of k-means. More centres
rule out more patches and cost more: benchmarks/log/recurring.md, "Scores without removed patches"."""

MARGIN = 5e-3
"""Largest error of squared distances from the rounding of tokens and products (bfloat16, TF32)."""

CALL_SIZES = (32, 256, 2048)
"""Numbers of patches in one call; calls are padded to one of these, so that few programs are compiled."""

REMOVED_MULTIPLE = 128
"""Removed patches of an image are padded to a multiple of this, so that few programs are compiled."""


class WithinRadius(NamedTuple):
    """Which patches are compared: those at most `radius` cells apart along either axis of the grid; 0: all."""

    grid: tuple[int, int]
    radius: int

    def around(self, patches: Bool[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
        """The patches that are compared with any of the given ones."""
        if not self.radius:
            return np.full(len(patches), patches.any())
        side = 2 * self.radius + 1
        return scipy.ndimage.maximum_filter(patches.reshape(self.grid), side, mode="constant", cval=False).ravel()

    def penalty(self, rows: Int[Array, " e"], columns: Int[Array, " f"]) -> Float[Array, "e f"] | float:
        """0 where two patches, given by their indices, are compared, else minus infinity."""
        if not self.radius:
            return 0.0
        cells, others = (jnp.stack(jnp.divmod(patches, self.grid[1])) for patches in (rows, columns))
        apart = jnp.abs(cells[:, :, None] - others[:, None, :]).max(axis=0)
        return jnp.where(apart <= self.radius, 0.0, -jnp.inf)


class ReducedReference(NamedTuple):
    """A reference image that loses patches.

    Attributes:
        vectors: computes its unit vectors [p, c]; those of all references would take much memory.
        unusable: patches that are removed or invalid.
        removed_vectors: unit vectors of the removed patches, the last one repeated, which changes no maximum.
        removed_patches: indices of these patches, padded in the same way.
        removed_count: number of removed patches.
    """

    vectors: Callable[[], Float[Array, "p c"]]
    unusable: Bool[np.ndarray, " p"]
    removed_vectors: Float[Array, "f c"]
    removed_patches: Int[np.ndarray, " f"]
    removed_count: int

    @classmethod
    def of(
        cls, vectors: Callable[[], Float[Array, "p c"]], removed: Bool[np.ndarray, " p"], valid: Bool[np.ndarray, " p"]
    ) -> "ReducedReference":
        """The reference without some of its valid patches."""
        patches = np.flatnonzero(removed & valid)
        padded = np.pad(patches, (0, -len(patches) % REMOVED_MULTIPLE), mode="edge")
        return cls(vectors, removed | ~valid, vectors()[padded], padded, len(patches))


class Centres(NamedTuple):
    """Centres of the removed patches.

    `radii` are the largest distances of the patches of each reference image that belong to a centre; minus infinity if
    there are none.
    """

    vectors: Float[np.ndarray, "q c"]
    radii: Float[np.ndarray, "a q"]

    @classmethod
    def of(cls, removed: Sequence[Float[np.ndarray, "f c"]]) -> "Centres":
        """Centres by k-means of the removed vectors of each reference image."""
        all_removed = np.concatenate(removed)
        sample = all_removed[evenly(len(all_removed), SAMPLE)]
        with warnings.catch_warnings():
            # equal patches leave some centres without a patch, which is harmless
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            centres, _ = scipy.cluster.vq.kmeans2(sample, min(CENTRES, len(sample)), iter=STEPS, minit="points", seed=0)
        radii = np.full((len(removed), len(centres)), -np.inf)
        for radii_of_reference, vectors in zip(radii, removed):
            distances = _distances(vectors @ centres.T, centres)
            nearest = distances.argmin(axis=1)
            np.maximum.at(radii_of_reference, nearest, distances[np.arange(len(vectors)), nearest])
        return cls(centres, radii)

    def lower_bounds(self, reference: int, to_centres: Float[np.ndarray, "q f"]) -> Float[np.ndarray, " f"]:
        """Lower bounds of the distances of patches to the removed patches of a reference image."""
        bounds = np.full(to_centres.shape[1], np.inf, np.float32)
        for centre in np.flatnonzero(np.isfinite(self.radii[reference])):
            np.minimum(bounds, to_centres[centre] - np.float32(self.radii[reference, centre]), out=bounds)
        return np.maximum(bounds, 0)


def _distances(products: Float[np.ndarray, "e q"], centres: Float[np.ndarray, "q c"]) -> Float[np.ndarray, "e q"]:
    """Euclidean distances of unit vectors to centres, from their inner products."""
    return np.sqrt(np.maximum(1 - 2 * products + (centres**2).sum(axis=1), 0))


class DistanceUpdate:
    """Distances of the patches of b images to the a reference images that lose patches [b, a, p].

    `old` are those with all patches, and `new` those without the removed ones, where they have been updated; `vectors`
    are the unit vectors of all patches of the images.
    """

    def __init__(
        self,
        vectors: Float[Array, "q c"],
        old: Float[np.ndarray, "b a p"],
        references: Sequence[ReducedReference],
        centres: Centres,
        precision: str,
        within: WithinRadius,
    ):
        to_centres = jnp.asarray(centres.vectors, vectors.dtype)
        products = np.asarray(inner_products(vectors, to_centres, "float32"), np.float32)
        self._centres, self._to_centres = centres, np.ascontiguousarray(_distances(products, centres.vectors).T)
        self.old, self.new = old, old.copy()
        self._vectors, self._references, self._precision, self._within = vectors, references, precision, within

    def update(self, needed: Bool[np.ndarray, "b a p"]) -> None:
        """Updates some distances, which must be finite."""
        indices = np.flatnonzero(needed.any(axis=(0, 2)))
        in_threads(lambda index: self._update_reference(int(index), needed[:, index]), indices)

    def _update_reference(self, index: int, needed: Bool[np.ndarray, "b p"]) -> None:
        reference = self._references[index]
        removed = np.zeros(len(reference.unusable), bool)
        removed[reference.removed_patches] = True
        bounds = self._centres.lower_bounds(index, self._to_centres).reshape(needed.shape)
        near = needed & self._within.around(removed)
        near &= np.square(bounds) <= np.square(self.old[:, index]) + MARGIN
        image, patch = np.nonzero(near)
        rows = image * self.old.shape[2] + patch
        to_removed = partial(
            _greatest_cosine,
            removed_vectors=reference.removed_vectors,
            removed_patches=reference.removed_patches,
        )
        nearest = self._in_chunks(rows, to_removed)
        # squared: the root would magnify the rounding near zero
        was_nearest = np.maximum(2.0 - 2.0 * nearest, 0.0) <= np.square(self.old[image, index, patch]) + TIE
        if was_nearest.any():
            remaining = partial(_distances_to_remaining, reference=reference.vectors(), unusable=reference.unusable)
            self.new[image[was_nearest], index, patch[was_nearest]] = self._in_chunks(rows[was_nearest], remaining)

    def _in_chunks(self, rows: Int[np.ndarray, " e"], function: Callable[..., Array]) -> Float[np.ndarray, " e"]:
        """The values of a function for some patches, started for all chunks before the first result is fetched."""
        pending = []
        for start in range(0, len(rows), CALL_SIZES[-1]):
            some = rows[start : start + CALL_SIZES[-1]]
            length = next(length for length in CALL_SIZES if length >= len(some))
            padded = np.pad(some, (0, length - len(some)), mode="edge")
            pending.append((len(some), function(self._vectors, padded, precision=self._precision, within=self._within)))
        return np.concatenate([np.zeros(0, np.float32), *(np.asarray(values)[:count] for count, values in pending)])


@partial(jax.jit, static_argnames=("precision", "within"))
def _greatest_cosine(
    vectors: Float[Array, "q c"],
    rows: Int[Array, " e"],
    removed_vectors: Float[Array, "f c"],
    removed_patches: Int[Array, " f"],
    precision: str,
    within: WithinRadius,
) -> Float[Array, " e"]:
    patches = rows % (within.grid[0] * within.grid[1])
    cosines = inner_products(vectors[rows], removed_vectors, precision) + within.penalty(patches, removed_patches)
    return cosines.max(axis=1)


@partial(jax.jit, static_argnames=("precision", "within"))
def _distances_to_remaining(
    vectors: Float[Array, "q c"],
    rows: Int[Array, " e"],
    reference: Float[Array, "p c"],
    unusable: Bool[Array, " p"],
    precision: str,
    within: WithinRadius,
) -> Float[Array, " e"]:
    patches = rows % len(reference)
    cosines = inner_products(vectors[rows], reference, precision) + within.penalty(patches, jnp.arange(len(reference)))
    return cosine_to_distance(jnp.where(unusable[None, :], -jnp.inf, cosines).max(axis=1))
