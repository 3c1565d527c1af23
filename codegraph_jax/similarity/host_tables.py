"""Tables of distances in the memory of the host or in mapped files, and mutual scores computed from them.

Mutual scoring: MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS
from codegraph_jax.similarity.removal import Changes, ExcludedReferences, Neighbours, ReferenceMask, changes_by_removal
from codegraph_jax.similarity.tiles import TileOptions


@dataclass(frozen=True)
class HostTables(Sequence[Float[np.ndarray, "r n m p"]]):
    """A read-only sequence of the distances of every layer.

    Attributes:
        tables: distances of each layer [r, n, m, p].
        layers: normalised patch tokens of each layer, of the images of this process.
        counts: number of images of each process; its images are consecutive.
        references: indices of the m reference images, in ascending order.
        options: degrees, grid and precision of the distances.
    """

    tables: Sequence[Float[np.ndarray, "r n m p"]]
    layers: Sequence[Any]
    counts: tuple[int, ...]
    references: Int[np.ndarray, " m"]
    options: TileOptions

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

    def of_degree(self, place: int) -> "HostTables":
        """The tables of one degree."""
        options = self.options._replace(degrees=self.options.degrees[place : place + 1])
        return replace(self, tables=[table[place : place + 1] for table in self.tables], options=options)

    def scores(
        self, k: int, columns: Int[np.ndarray, " c"], excluded: Bool[np.ndarray, "n m"] | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores of every layer: the mean of the k smallest distances to some references.

        Args:
            k: number of distances that a score averages.
            columns: columns of the references to use.
            excluded: references that are not used for an image; None: there are none.
        """
        chosen = slice(None) if len(columns) == len(self.references) else columns
        return [mutual_scores(table, k, chosen, excluded) for table in self.tables]

    def scores_without(
        self,
        k: int,
        columns: Int[np.ndarray, " c"],
        pairs: Bool[np.ndarray, "n m"],
        masks: Sequence[ReferenceMask],
        removed: Bool[np.ndarray, "n p"],
        scores: Sequence[Float[np.ndarray, "r n p"]],
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores of every layer without some references, or without some patches of references.

        Only patches whose score can change are scored again: one of their references is excluded, or has lost the patch
        that was nearest.

        Args:
            k: number of distances that a score averages.
            columns: columns of the references to use.
            pairs: references that are not used for an image.
            masks: references that are not used for some patches.
            removed: patches that are removed from the references; they are still scored.
            scores: scores by the same references with nothing excluded.
        """
        used, lost = self.references[columns], np.zeros_like(removed)
        lost[used] = removed[used]
        excluded = ExcludedReferences.of(pairs, masks, columns, removed.shape[1])
        neighbours = Neighbours(columns, k, excluded.apply)
        found = [layer.copy() for layer in scores]
        for layer, table, tokens in zip(found, self.tables, self.layers):
            how = lost, self.references, self.options, neighbours, self.counts
            for degree, changes in enumerate(changes_by_removal(table, tokens, *how)):
                _score_again(layer[degree], table[degree], neighbours, changes, excluded)
        return found


def mean_distances(tables: Sequence[Float[np.ndarray, "r n m p"]]) -> Float[np.ndarray, "n m p"]:
    """Mean over layers and degrees."""
    total = np.zeros(tables[0].shape[1:], np.float32)
    for table in tables:
        for degree in table:
            total += degree
    total /= sum(len(table) for table in tables)
    return total


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


def mutual_scores(
    distances: Float[np.ndarray, "r n m p"],
    k: int,
    columns: Int[np.ndarray, " c"] | slice = slice(None),
    excluded: Bool[np.ndarray, "n m"] | None = None,
) -> Float[np.ndarray, "r n p"]:
    """s[r](x) = mean of the K smallest distances of patch x to the reference images.

    Args:
        distances: distances of each patch of n images to m references; infinite to excluded references.
        k: see `neighbour_count`.
        columns: the references to use.
        excluded: references that are not used for an image; None: there are none.
    """
    degrees, n, _, p = distances.shape
    scores = np.empty((degrees, n, p), np.float32)

    def score(index: tuple[int, int]) -> None:
        to_references = distances[index][columns]
        if excluded is not None and excluded[index[1]][columns].any():
            to_references = np.where(excluded[index[1]][columns][:, None], np.float32(np.inf), to_references)
        scores[index] = mean_of_smallest(to_references, k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(score, np.ndindex(degrees, n)))
    return scores


def _score_again(
    scores: Float[np.ndarray, "n p"],
    table: Float[np.ndarray, "n m p"],
    neighbours: Neighbours,
    changes: Changes,
    excluded: ExcludedReferences,
) -> None:
    """Updates, in place, the scores of the patches of one layer and degree that lose a reference or a nearest patch."""
    order = np.argsort(changes.image, kind="stable")
    bounds = np.searchsorted(changes.image[order], np.arange(len(table) + 1))
    place = np.full(table.shape[1], -1)
    place[neighbours.columns] = np.arange(len(neighbours.columns))

    def score_image(i: int) -> None:
        own = order[bounds[i] : bounds[i + 1]]
        own = own[place[changes.column[own]] >= 0]
        affected = excluded.affected(i)
        affected[changes.patch[own]] = True
        if not affected.any():
            return
        patches = np.flatnonzero(affected)
        rows = table[i][np.ix_(neighbours.columns, patches)]
        rows[place[changes.column[own]], np.searchsorted(patches, changes.patch[own])] = changes.distance[own]
        excluded.apply(i, rows, patches)
        scores[i, patches] = mean_of_smallest(rows, neighbours.k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(score_image, range(len(table))))
