"""Distances of a block of images on the host; threads process one image each with NumPy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS, in_threads
from codegraph_jax.similarity.host_tables import mean_of_smallest
from codegraph_jax.similarity.valid import valid_patches

MIN_DISTANCE, MAX_DISTANCE = 1e-4, 2.0
"""Distances are clamped to this range before taking logarithms: float32 products have no precision below it, and the
distance of unit vectors is at most 2."""

Columns = Int[np.ndarray, " c"] | slice


@dataclass(frozen=True)
class HostBlock:
    """Distances of the patches of b images, the `rows` (possibly repeated) of s; infinite for excluded references."""

    values: Float[np.ndarray, "s m p"]
    rows: Int[np.ndarray, " b"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(b, m, p)."""
        return len(self.rows), self.values.shape[1], self.values.shape[2]

    def select(self, images: Int[np.ndarray, " c"]) -> "HostBlock":
        """The block with some of its images."""
        return replace(self, rows=self.rows[images])

    def exclude(self, pairs: Bool[np.ndarray, "b m"]) -> "HostBlock":
        """The block with infinite distances of some pairs of image and reference.

        This block must not be used afterwards.
        """
        row, column = np.nonzero(pairs)
        # in place, since there may be no memory for another table
        self.values[self.rows[row], column] = np.inf
        return self

    def usable(self, columns: Columns) -> Bool[np.ndarray, "b c"]:
        """Whether each of these references has a finite distance to any patch."""
        count = len(np.arange(self.shape[1])[columns])
        return self._map_images((count,), lambda i, x: np.isfinite(x[columns]).any(axis=1), bool)

    def valid(self) -> Bool[np.ndarray, "b p"]:
        """Which patches have distances."""
        return self._map_images(self.shape[2:], lambda i, x: valid_patches(x), bool)

    def mean_of_smallest(self, k: int, columns: Columns) -> Float[np.ndarray, "b p"]:
        """Mean of the k smallest finite distances to some references; infinite where none is finite."""
        return self._map_images(self.shape[2:], lambda i, x: mean_of_smallest(x[columns], k))

    def kth_reference(self, ranks: Int[np.ndarray, "b w"], columns: Columns) -> Float[np.ndarray, "b w p"]:
        """Distances of each patch to some references, at the given ranks (1: smallest); infinite beyond the last."""
        shape = ranks.shape[1], self.shape[2]
        return self._map_images(shape, lambda i, x: _at_ranks(x[columns], ranks[i]))

    def kth_patch(
        self, ranks: Int[np.ndarray, "b w"], patches: Bool[np.ndarray, "b p"], unit: Float[np.ndarray, "b p"] | None
    ) -> Float[np.ndarray, "b w m"]:
        """Distances of the chosen patches to each reference, at the given ranks (1: smallest).

        They are infinite beyond the last rank. With `unit` the distances of each patch are first divided by its value.
        """

        def ranked(i: int, distances: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "w m"]:
            some = slice(None) if patches[i].all() else patches[i]
            distances = distances[:, some]
            return _at_ranks((distances if unit is None else distances / unit[i, some]).T, ranks[i])

        return self._map_images((ranks.shape[1], self.shape[1]), ranked)

    def all_distances(self) -> Sequence[Float[np.ndarray, "m p"]]:
        """All distances of each image."""
        return [self.values[i] for i in self.rows]

    def patch_distances(self, patch: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b m"]:
        """The distances of one patch of each image."""
        return self.values[self.rows, :, patch]

    def distances_by_image(self, patches: Bool[np.ndarray, "b p"]) -> list[Callable[[], Float[np.ndarray, "e m"]]]:
        """For each image a function that returns the distances of its chosen patches; threads may call it."""
        return [partial(lambda i, own: self.values[i][:, own].T, *given) for given in zip(self.rows, patches)]

    def candidates(self, windows: list[int], limits: Sequence[Float[np.ndarray, " k"]]) -> Bool[np.ndarray, "b w p"]:
        """All patches: on the host the exact test costs no transfer, so no patch is ruled out before it."""
        return np.broadcast_to(np.True_, (len(self.rows), len(windows), self.shape[2]))

    def _map_images(
        self,
        shape: tuple[int, ...],
        work: Callable[[int, Float[np.ndarray, "m p"]], np.ndarray],
        dtype: type | np.dtype | None = None,
    ) -> np.ndarray:
        """Results of `work`, called with the index and the distances of each image."""
        results = np.empty((len(self.rows), *shape), dtype or self.values.dtype)
        remaining = iter(range(len(results)))

        def work_through(_: int) -> None:
            for i in remaining:
                results[i] = work(i, self.values[self.rows[i]])

        # NumPy's sorting releases the GIL; one task per image would cost more than the cheapest work
        in_threads(work_through, range(CPU_THREADS))
        return results


def _at_ranks(values: Float[np.ndarray, "c v"], ranks: Int[np.ndarray, " w"]) -> Float[np.ndarray, "w v"]:
    """The values at ranks in ascending order along the first axis; infinite beyond the last."""
    at_ranks = np.full((len(ranks), values.shape[1]), np.inf, values.dtype)
    inside = ranks <= len(values)
    if inside.any():
        at_ranks[inside] = np.partition(values, ranks[inside] - 1, axis=0)[ranks[inside] - 1]
    return at_ranks
