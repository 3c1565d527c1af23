"""Tables of distances in the memory of the host or in mapped files, and mutual scores computed from them.

Mutual scoring: MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.core.arrays import in_threads
from codegraph_jax.core.errors import UserError
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.references import ReferenceSubset
from codegraph_jax.similarity.removal import Changes, ExcludedReferences, Exclusions, Neighbours, changes_by_removal
from codegraph_jax.similarity.valid import INVALID

PatchScore = Callable[[Float[np.ndarray, "m p"], int], Float[np.ndarray, " p"]]
"""Scores the p inspected patches of an image at one layer and degree; called in threads.

The arguments are the distances of each patch to its most similar patch in each of m references, and the number K of
references that a score should use. A distance is infinite if the reference is excluded for this patch alone; other
excluded references, and the image itself, are left out. Larger scores are more anomalous, and none is below 0.
"""


class PatchScoreError(UserError):
    """A patch score returns something else than a finite number from 0 for each patch."""


@dataclass(frozen=True)
class HostTables(Sequence[Float[np.ndarray, "r n m p"]]):
    """A read-only sequence of the distances of every layer [r, n, m, p].

    `layers` has the normalised patch tokens of the images of this process, which are consecutive. `references` are the
    indices of the m reference images, in ascending order.
    """

    tables: Sequence[Float[np.ndarray, "r n m p"]]
    layers: Sequence[Any]
    images_per_process: tuple[int, ...]
    references: Int[np.ndarray, " m"]
    options: DistanceOptions

    def __len__(self) -> int:
        return len(self.tables)

    def __getitem__(self, layer: Any) -> Any:
        return self.tables[layer]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""
        n, m, p = self.tables[0].shape[1:]
        return n, m, p

    def means(self) -> list[Float[np.ndarray, "n m p"]]:
        """Mean over layers and degrees, as one block of images."""
        return [mean_distances(self.tables)]

    def host(self) -> "HostTables":
        """The tables themselves, which are on the host already."""
        return self

    def of_degree(self, degree_index: int) -> "HostTables":
        """The tables of one degree."""
        options = self.options._replace(degrees=self.options.degrees[degree_index : degree_index + 1])
        return replace(self, tables=[table[degree_index : degree_index + 1] for table in self.tables], options=options)

    def scores(
        self, subset: ReferenceSubset, exclusions: Exclusions, patch_score: PatchScore | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Scores of every layer by a subset of the references, without what is excluded; none is clipped.

        The score is the mean of the k smallest distances, or `patch_score`. Removed patches are still scored.
        """
        columns, k = subset
        # a slice copies nothing
        chosen = slice(None) if len(columns) == len(self.references) else columns
        scores = [table_scores(table, k, chosen, patch_score) for table in self.tables]
        if exclusions.is_empty:
            return scores
        # only patches whose score can change are scored again: one of their references is excluded, or has lost the
        # patch that was nearest; with another score, the whole image is scored again
        used, lost = self.references[columns], np.zeros_like(exclusions.removed)
        lost[used] = exclusions.removed[used]
        neighbours = Neighbours(subset, ExcludedReferences.of(exclusions, columns))
        for layer, table, tokens in zip(scores, self.tables, self.layers):
            # another score can depend on any distance
            nearest = None if patch_score else neighbours
            by_degree = changes_by_removal(
                table, tokens, lost, self.references, self.options, nearest, self.images_per_process
            )
            for degree, changes in enumerate(by_degree):
                _score_again(layer[degree], table[degree], neighbours, changes, patch_score)
        return scores


def mean_distances(tables: Sequence[Float[np.ndarray, "r *n m p"]]) -> Float[np.ndarray, "*n m p"]:
    """Mean over layers and degrees."""
    total = np.zeros(tables[0].shape[1:], np.float32)
    for table in tables:
        for degree in table:
            total += degree
    total /= sum(len(table) for table in tables)
    return total


def mean_over_layers(scores: Sequence[Float[np.ndarray, "r n p"]]) -> Float[np.ndarray, "n p"]:
    """Scores averaged over layers and degrees."""
    total = np.zeros(scores[0].shape[1:], np.float64)
    for layer in scores:
        total += layer.mean(axis=0)
    return (total / len(scores)).astype(np.float32)


def mean_of_smallest(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """Mean of the k smallest finite distances of each patch; of all if fewer are finite, infinite if none is."""
    columns = np.ascontiguousarray(distances.T)
    if k < columns.shape[1]:
        columns = np.partition(columns, k - 1, axis=1)[:, :k]
    finite = np.isfinite(columns)
    if finite.size and finite.all():
        return columns.mean(axis=1)
    count = finite.sum(axis=1)
    total = np.where(finite, columns, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf).astype(columns.dtype)


def patch_scores(
    distances: Float[np.ndarray, "m p"], k: int, patch_score: PatchScore | None = None
) -> Float[np.ndarray, " p"]:
    """Scores of the patches of one image; `INVALID` for patches that are not inspected, infinite without a reference.

    Distances to excluded references are infinite; without `patch_score` the result is `mean_of_smallest`.

    Raises:
        PatchScoreError: the result of `patch_score` has another shape, or values that are negative or not finite.
    """
    if patch_score is None:
        return mean_of_smallest(distances, k)
    scores = np.full(distances.shape[1], INVALID)
    inspected = distances.min(axis=0, initial=np.inf) >= 0
    scores[inspected] = np.inf
    scored = inspected & np.isfinite(distances).any(axis=0)
    references = np.isfinite(distances[:, scored]).any(axis=1)
    if scored.any():
        values = np.asarray(patch_score(distances[np.ix_(references, scored)], k))
        name = getattr(patch_score, "__name__", type(patch_score).__name__)
        if values.shape != (scored.sum(),):
            raise PatchScoreError(
                f"score {name}: returned an array of shape {values.shape} for distances [{references.sum()}, "
                f"{scored.sum()}]; return one number for each of the {scored.sum()} patches"
            )
        if wrong := int((~np.isfinite(values) | (values < 0)).sum()):
            raise PatchScoreError(
                f"score {name}: returned {wrong} of {len(values)} values that are negative or not finite; distances to "
                "references that are excluded for single patches are infinite"
            )
        scores[scored] = values
    return scores


def table_scores(
    distances: Float[np.ndarray, "r n m p"],
    k: int,
    columns: Int[np.ndarray, " c"] | slice = slice(None),
    patch_score: PatchScore | None = None,
) -> Float[np.ndarray, "r n p"]:
    """s[r](x) = mean of the k smallest distances of patch x to the references at some columns, or `patch_score`."""
    degrees, n, _, p = distances.shape
    scores = np.empty((degrees, n, p), np.float32)

    def score_image(index: tuple[int, int]) -> None:
        scores[index] = patch_scores(distances[index][columns], k, patch_score)

    in_threads(score_image, np.ndindex(degrees, n))
    return scores


def _score_again(
    scores: Float[np.ndarray, "n p"],
    table: Float[np.ndarray, "n m p"],
    neighbours: Neighbours,
    changes: Changes,
    patch_score: PatchScore | None,
) -> None:
    """Updates, in place, the scores of the patches of one layer and degree that lose a reference or a nearest patch."""
    order = np.argsort(changes.image, kind="stable")
    bounds = np.searchsorted(changes.image[order], np.arange(len(table) + 1))
    (columns, k), excluded, position = neighbours.subset, neighbours.excluded, neighbours.positions(table.shape[1])

    def score_image(i: int) -> None:
        lost = order[bounds[i] : bounds[i + 1]]
        lost = lost[position[changes.column[lost]] >= 0]
        affected = excluded.affected(i, table.shape[2])
        affected[changes.patch[lost]] = True
        if not affected.any():
            return
        patches = np.arange(len(affected)) if patch_score else np.flatnonzero(affected)
        rows = table[i][np.ix_(columns, patches)]
        rows[position[changes.column[lost]], np.searchsorted(patches, changes.patch[lost])] = changes.distance[lost]
        excluded.apply(i, rows, patches)
        scores[i, patches] = patch_scores(rows, k, patch_score)

    in_threads(score_image, range(len(table)))
