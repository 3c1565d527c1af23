"""Tables of distances in the memory of the host, or in mapped files, and mutual scores by them.

Mutual scoring: MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS
from codegraph_jax.similarity.removal import Barred, Changes, Neighbours, ReferenceMask, changes_by_removal
from codegraph_jax.similarity.tiles import TileOptions


@dataclass(frozen=True)
class HostTables(Sequence[Float[np.ndarray, "r n m p"]]):
    """Distances of every layer; a sequence of them. Nothing is written into them.

    Attributes:
        tables: distances of each layer [r, n, m, p].
        layers: normalised patch tokens of each layer, of the images of this process.
        counts: images of each process, which follow one another.
        references: which images the m references are, in ascending order.
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
        """Mean over layers and degrees, in one piece."""
        return [mean_distances(self.tables)]

    def host(self) -> "HostTables":
        """Itself."""
        return self

    def of_degree(self, place: int) -> "HostTables":
        """The tables of one degree."""
        options = self.options._replace(degrees=self.options.degrees[place : place + 1])
        return replace(self, tables=[table[place : place + 1] for table in self.tables], options=options)

    def scores(
        self, k: int, columns: Int[np.ndarray, " c"], barred: Bool[np.ndarray, "n m"] | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores of every layer: the mean of the k smallest distances to some references.

        Args:
            k: neighbours that a score averages.
            columns: of the references that serve.
            barred: references that must not serve an image.
        """
        chosen = slice(None) if len(columns) == len(self.references) else columns
        return [mutual_scores(table, k, chosen, barred) for table in self.tables]

    def scores_without(
        self,
        k: int,
        columns: Int[np.ndarray, " c"],
        pairs: Bool[np.ndarray, "n m"],
        masks: Sequence[ReferenceMask],
        removed: Bool[np.ndarray, "n p"],
        scores: Sequence[Float[np.ndarray, "r n p"]],
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores of every layer where some references, or patches of references, must not serve.

        Only what that can change is computed anew: a patch is scored again where one of its references is barred from
        it or has lost the patch that was nearest.

        Args:
            k: neighbours that a score averages.
            columns: of the references that serve.
            pairs: references that must not serve an image.
            masks: references that must not serve some patches.
            removed: patches that serve nobody; they are still scored.
            scores: by these references, with nothing left out.
        """
        serving, lost = self.references[columns], np.zeros_like(removed)
        lost[serving] = removed[serving]
        barred = Barred.of(pairs, masks, columns, removed.shape[1])
        neighbours = Neighbours(columns, k, barred.bar)
        found = [layer.copy() for layer in scores]
        for layer, table, tokens in zip(found, self.tables, self.layers):
            how = lost, self.references, self.options, neighbours, self.counts
            for degree, changes in enumerate(changes_by_removal(table, tokens, *how)):
                _score_again(layer[degree], table[degree], neighbours, changes, barred)
        return found


def mean_distances(tables: Sequence[Float[np.ndarray, "r n m p"]]) -> Float[np.ndarray, "n m p"]:
    """Mean over layers and degrees, on which all decisions are made."""
    total = np.zeros(tables[0].shape[1:], np.float32)
    for table in tables:
        for degree in table:
            total += degree
    total /= sum(len(table) for table in tables)
    return total


def mean_of_smallest(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """Mean of the k smallest finite distances of each patch; of all where fewer are finite, infinite where none is."""
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
    barred: Bool[np.ndarray, "n m"] | None = None,
) -> Float[np.ndarray, "r n p"]:
    """s[r](x) = mean of the K smallest distances of patch x to the reference images.

    Args:
        distances: of each patch of n images to m references; infinite where a reference must not serve.
        k: see `neighbour_count`.
        columns: the references that serve.
        barred: references that must not serve an image; None: there are none.
    """
    degrees, n, _, p = distances.shape
    scores = np.empty((degrees, n, p), np.float32)

    def score(index: tuple[int, int]) -> None:
        to_references = distances[index][columns]
        if barred is not None and barred[index[1]][columns].any():
            to_references = np.where(barred[index[1]][columns][:, None], np.float32(np.inf), to_references)
        scores[index] = mean_of_smallest(to_references, k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(score, np.ndindex(degrees, n)))
    return scores


def _score_again(
    scores: Float[np.ndarray, "n p"],
    table: Float[np.ndarray, "n m p"],
    neighbours: Neighbours,
    changes: Changes,
    barred: Barred,
) -> None:
    """Scores anew, in place, the patches of one layer and degree that lose a reference or a nearest patch."""
    order = np.argsort(changes.image, kind="stable")
    bounds = np.searchsorted(changes.image[order], np.arange(len(table) + 1))
    place = np.full(table.shape[1], -1)
    place[neighbours.columns] = np.arange(len(neighbours.columns))

    def score_image(i: int) -> None:
        own = order[bounds[i] : bounds[i + 1]]
        own = own[place[changes.column[own]] >= 0]
        touched = barred.touches(i)
        touched[changes.patch[own]] = True
        if not touched.any():
            return
        patches = np.flatnonzero(touched)
        rows = table[i][np.ix_(neighbours.columns, patches)]
        rows[place[changes.column[own]], np.searchsorted(patches, changes.patch[own])] = changes.distance[own]
        barred.bar(i, rows, patches)
        scores[i, patches] = mean_of_smallest(rows, neighbours.k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(score_image, range(len(table))))
