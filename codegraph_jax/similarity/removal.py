"""Exact distances after some patches are removed from the references, computed only where scores can change.

Removing patches from reference image j changes d(x, j) only for those x whose nearest patch of j was removed. The
removed patches are few, so finding those x takes a product with these alone, and most x are ruled out by their
distances to a few centres of the removed patches (triangle inequality). Distances only grow: a score that averages the
k smallest needs only these, and those that replace the ones that have grown. Images are processed in blocks, so that
the unit vectors of a whole layer never exist at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import arrays_at_once, in_threads
from codegraph_jax.distributed import processes
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.distance_update import Centres, DistanceUpdate, ReducedReference, WithinRadius
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.references import ReferenceSubset, reference_columns

EXTRA_NEIGHBOURS = 2
"""Number of distances beyond the k smallest that are updated with them, to save rounds."""


class ReferenceMask(NamedTuple):
    """References, by their columns, that are not used for some patches."""

    columns: Int[np.ndarray, " c"]
    patches: Bool[np.ndarray, "n p"]


@dataclass(frozen=True)
class Exclusions:
    """References and patches that are excluded, and patches whose scores are clipped.

    `pairs` are references excluded for an image, `masks` for some patches; `removed` patches are removed from all
    references, and still scored; scores of `clipped` patches, which count as normal, are lowered to the median of their
    image, after all scores are computed.
    """

    pairs: Bool[np.ndarray, "n m"]
    removed: Bool[np.ndarray, "n p"]
    masks: Sequence[ReferenceMask]
    clipped: Bool[np.ndarray, "n p"]

    @classmethod
    def none(cls, shape: tuple[int, int, int]) -> "Exclusions":
        """Excludes nothing from a comparison [n, m, p]."""
        n, m, p = shape
        return cls(np.zeros((n, m), bool), np.zeros((n, p), bool), (), np.zeros((n, p), bool))

    @property
    def is_empty(self) -> bool:
        """Whether all references and patches are used for all scores; some may still be clipped."""
        return not (self.masks or self.pairs.any() or self.removed.any())


@dataclass(frozen=True)
class ExcludedReferences:
    """Which of c references are not used for which patches of n images; the columns of `masks` are among the c."""

    pairs: Bool[np.ndarray, "n c"]
    masks: Sequence[ReferenceMask]

    @classmethod
    def of(cls, exclusions: Exclusions, columns: Int[np.ndarray, " c"]) -> "ExcludedReferences":
        """The exclusions among some references of a table, given by their columns in ascending order."""
        masks = [
            ReferenceMask(np.searchsorted(columns, np.intersect1d(mask.columns, columns)), mask.patches)
            for mask in exclusions.masks
        ]
        return cls(exclusions.pairs[:, columns], masks)

    def affected(self, i: int, patch_count: int) -> Bool[np.ndarray, " p"]:
        """Patches of image i, which has `patch_count`, for which some reference is not used."""
        affected = np.full(patch_count, self.pairs[i].any())
        for mask in self.masks:
            affected |= mask.patches[i]
        return affected

    def apply(
        self, i: int, distances: Float[np.ndarray, "c q"], patches: Int[np.ndarray, " q"] | slice = slice(None)
    ) -> None:
        """Makes distances of some patches of image i to excluded references infinite, in place."""
        distances[self.pairs[i]] = np.inf
        for columns, chosen in self.masks:
            distances[np.ix_(columns, np.flatnonzero(chosen[i, patches]))] = np.inf


class Changes(NamedTuple):
    """The e distances [image, column, patch] of one layer and degree that change when patches are removed.

    A new distance is infinite if a reference image has no patch left.
    """

    image: Int[np.ndarray, " e"]
    column: Int[np.ndarray, " e"]
    patch: Int[np.ndarray, " e"]
    distance: Float[np.ndarray, " e"]

    def apply(self, table: Float[np.ndarray, "n m p"]) -> None:
        """Writes the new values into the table, in place."""
        table[self.image, self.column, self.patch] = self.distance


@dataclass(frozen=True)
class Neighbours:
    """The distances that a score depends on: the k smallest to the references of a subset that are not excluded."""

    subset: ReferenceSubset
    excluded: ExcludedReferences

    def positions(self, column_count: int) -> Int[np.ndarray, " m"]:
        """The position in the subset of each column of a table; -1 for other columns."""
        return reference_columns(column_count, self.subset.columns)


def changes_by_removal(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "k p c"],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: DistanceOptions,
    neighbours: Neighbours | None = None,
    images_per_process: tuple[int, ...] = (),
) -> list[Changes]:
    """The changes of a table of distances of one layer when patches are removed from the references.

    Removed patches are still scored. `normalised` has the patch tokens (`aggregation.normalise`) of the images of this
    process, and `references` the image of each column. Only distances that `neighbours` depend on must be right; None:
    all. With several processes, each has consecutive images and computes the changes of these.

    Returns:
        The changes of each degree, the same in every process.
    """
    columns = np.flatnonzero(removed[references].any(axis=1))
    reduced, rank = references[columns], jax.process_index()
    if len(images_per_process) < 2:
        return _changes(table, normalised, normalised[reduced], removed[reduced], columns, options, neighbours, 0)
    # few reference images lose patches, so these are sent to every process
    start = sum(images_per_process[:rank])
    held, mine = np.asarray(normalised), np.arange(start, start + images_per_process[rank])
    tokens = processes.gather_rows(held[reduced[np.isin(reduced, mine)] - start])
    rows = table[:, start : start + len(mine)]
    own = _changes(rows, held, tokens, removed[reduced], columns, options, neighbours, start)
    return [Changes(*map(processes.gather_rows, change)) for change in own]


def _changes(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    reduced_tokens: Float[Array | np.ndarray, "a p c"],
    removed: Bool[np.ndarray, "a p"],
    columns: Int[np.ndarray, " a"],
    options: DistanceOptions,
    neighbours: Neighbours | None,
    first: int,
) -> list[Changes]:
    """`changes_by_removal` for the images from `first`, and references that lose patches given by their tokens."""
    if not len(columns):
        return [_joined([])] * len(table)
    _, p, c = normalised.shape
    size = arrays_at_once(4 * p * max(c, table.shape[2]))
    valid = np.ones_like(removed)
    if options.masked:
        valid = np.stack([np.asarray((tokens != 0).any(axis=-1)) for tokens in reduced_tokens])
    within = WithinRadius(options.grid, options.radius)
    changes = []
    for distances, degree in zip(table, options.degrees):
        unit_vectors = partial(_rounded_vectors, degree=degree, options=options)
        vectors_of = [partial(_of_image, unit_vectors, tokens) for tokens in reduced_tokens]
        references = [ReducedReference.of(vectors, *patches) for vectors, *patches in zip(vectors_of, removed, valid)]
        centres = Centres.of([np.asarray(r.removed_vectors, np.float32)[: r.removed_count] for r in references])
        chunks = []
        for start, vectors in _vector_blocks(unit_vectors, normalised, size):
            block = distances[start : start + size]
            to_reduced = DistanceUpdate(vectors, block[:, columns], references, centres, _precision(options), within)
            if neighbours:
                _update_neighbours(to_reduced, block, columns, neighbours, first + start)
            else:
                to_reduced.update(np.isfinite(to_reduced.old) & (to_reduced.old >= 0))
            image, index, patch = np.nonzero(to_reduced.new != to_reduced.old)
            chunks.append(Changes(image + first + start, columns[index], patch, to_reduced.new[image, index, patch]))
        changes.append(_joined(chunks))
    return changes


def _vector_blocks(
    unit_vectors: Callable[[Any], Array], normalised: Float[Array | np.ndarray, "n p c"], size: int
) -> Iterator[tuple[int, Float[Array, "k c"]]]:
    """The first image of each block of `size` images, and the unit vectors of its patches.

    The device computes a block while the host works on the one before.
    """
    upcoming = unit_vectors(normalised[:size])
    for start in range(0, len(normalised), size):
        block, after = upcoming, start + size
        if after < len(normalised):
            upcoming = unit_vectors(normalised[after : after + size])
        yield start, block.reshape(-1, block.shape[-1])


def _update_neighbours(
    to_reduced: DistanceUpdate,
    distances: Float[np.ndarray, "b m p"],
    columns: Int[np.ndarray, " a"],
    neighbours: Neighbours,
    first: int,
) -> None:
    """Updates the distances that scores depend on, until no further ones get among the smallest."""
    subset, position = neighbours.subset, neighbours.positions(distances.shape[1])
    inside = position[columns] >= 0
    bounds = np.stack([to_references[subset.columns] for to_references in distances])
    for i, to_references in enumerate(bounds):
        neighbours.excluded.apply(first + i, to_references)
    updated = np.zeros(to_reduced.old.shape, bool)
    # when one of the k smallest grows, others take its place
    last = min(subset.k + EXTRA_NEIGHBOURS, bounds.shape[1]) - 1
    # patches with a distance that has grown in the last round
    open_patches = np.ones(to_reduced.old.shape[::2], bool)

    def among_the_smallest(i: int) -> Bool[np.ndarray, "a p"]:
        patches = np.flatnonzero(open_patches[i])
        distances = bounds[i][:, patches]
        limit = np.partition(distances, last, axis=0)[last]
        reduced = distances[position[columns[inside]]]
        smallest = np.zeros(to_reduced.old.shape[1:], bool)
        smallest[np.ix_(np.flatnonzero(inside), patches)] = (reduced <= limit) & np.isfinite(reduced) & (reduced >= 0)
        return smallest

    while open_patches.any():
        needed = np.stack(in_threads(among_the_smallest, range(len(bounds)))) & ~updated
        before = to_reduced.new.copy()
        to_reduced.update(needed)
        updated |= needed
        grown = to_reduced.new != before
        open_patches = grown.any(axis=1)
        image, column, patch = np.nonzero(grown)
        bounds[image, position[columns[column]], patch] = to_reduced.new[image, column, patch]


def _joined(chunks: Sequence[Changes]) -> Changes:
    """All changes, with 32-bit indices, since there may be millions."""
    nothing = Changes(*(np.zeros(0, np.int32),) * 3, np.zeros(0, np.float32))
    columns = zip(nothing, *chunks)
    return Changes(*(np.concatenate(column).astype(column[0].dtype) for column in columns))


def _rounded_vectors(
    normalised: Float[Array | np.ndarray, "b p c"], degree: int, options: DistanceOptions
) -> Float[Array, "b p c"]:
    """Unit vectors rounded as in the kernel: `reuse` rounds tokens, the others round unit vectors."""
    if options.kernel == "reuse":
        return aggregate(jnp.asarray(normalised), degree, options.grid, rounded=options.product_type)
    return aggregate(jnp.asarray(normalised), degree, options.grid, options.product_type)


def _precision(options: DistanceOptions) -> str:
    """Precision of the products: `reuse` multiplied rounded tokens exactly, which takes float32 for unit vectors."""
    return "float32" if options.kernel == "reuse" and options.precision == "bfloat16" else options.precision


def _of_image(unit_vectors: Callable[[Any], Array], tokens: Float[Array | np.ndarray, "p c"]) -> Float[Array, "p c"]:
    return unit_vectors(tokens[None])[0]
