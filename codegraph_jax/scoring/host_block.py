"""Distances of some images in the memory of the host: numpy works on them image by image, in threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS
from codegraph_jax.similarity.host_tables import mean_of_smallest
from codegraph_jax.similarity.judged import judged_patches

SMALLEST_DISTANCE, FARTHEST = 1e-4, 2.0
"""Between these distances are clamped before their logarithm is taken: float32 products leave no more near zero, and
unit vectors are no farther apart."""

Columns = Int[np.ndarray, " c"] | slice


@dataclass(frozen=True)
class HostBlock:
    """Distances of the patches of b images to m references; infinite where a reference must not serve.

    Attributes:
        values: distances of s images [s, m, p].
        chosen: which of these images are meant; one may be there several times [b].
    """

    values: Float[np.ndarray, "s m p"]
    chosen: Int[np.ndarray, " b"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(b, m, p)."""
        return len(self.chosen), self.values.shape[1], self.values.shape[2]

    def some(self, images: Int[np.ndarray, " c"]) -> "HostBlock":
        """Some of the images."""
        return replace(self, chosen=self.chosen[images])

    def without(self, pairs: Bool[np.ndarray, "b m"]) -> "HostBlock":
        """Sets pairs of image and reference to infinity; the old block must not be used any more."""
        row, column = np.nonzero(pairs)
        # in place: there may be no room for another table
        self.values[self.chosen[row], column] = np.inf
        return self

    def serves(self, columns: Columns) -> Bool[np.ndarray, "b c"]:
        """Which of some references have a finite distance to any patch."""
        count = len(np.arange(self.shape[1])[columns])
        return self._of_each((count,), lambda i, x: np.isfinite(x[columns]).any(axis=1), bool)

    def judged(self) -> Bool[np.ndarray, "b p"]:
        """Which patches are judged."""
        return self._of_each(self.shape[2:], lambda i, x: judged_patches(x), bool)

    def mean_of_smallest(self, k: int, columns: Columns) -> Float[np.ndarray, "b p"]:
        """Mean of the k smallest finite distances to some references; infinite where none is finite."""
        return self._of_each(self.shape[2:], lambda i, x: mean_of_smallest(x[columns], k))

    def kth_reference(self, ranks: Int[np.ndarray, "b w"], columns: Columns) -> Float[np.ndarray, "b w p"]:
        """The distances of each patch to some references, at ranks from 1; infinite beyond the last."""
        shape = ranks.shape[1], self.shape[2]
        return self._of_each(shape, lambda i, x: _at_ranks(x[columns], ranks[i]))

    def kth_patch(
        self, ranks: Int[np.ndarray, "b w"], patches: Bool[np.ndarray, "b p"], unit: Float[np.ndarray, "b p"] | None
    ) -> Float[np.ndarray, "b w m"]:
        """The distances of some patches to each reference, at ranks from 1; infinite beyond the last.

        They are multiples of a unit, which each patch has of its own; None: of 1.
        """

        def of(i: int, distances: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "w m"]:
            some = slice(None) if patches[i].all() else patches[i]
            distances = distances[:, some]
            return _at_ranks((distances if unit is None else distances / unit[i, some]).T, ranks[i])

        return self._of_each((ranks.shape[1], self.shape[1]), of)

    def images(self) -> Sequence[Float[np.ndarray, "m p"]]:
        """All distances of each image."""
        return [self.values[i] for i in self.chosen]

    def rows(self, patch: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b m"]:
        """The distances of one patch of each image."""
        return self.values[self.chosen, :, patch]

    def rows_by_image(self, patches: Bool[np.ndarray, "b p"]) -> list[Callable[[], Float[np.ndarray, "e m"]]]:
        """For each image a function that returns the distances of its chosen patches; threads may call it."""
        return [partial(lambda i, own: self.values[i][:, own].T, *given) for given in zip(self.chosen, patches)]

    def reaching(self, windows: Sequence[int], least: Sequence[Float[np.ndarray, " k"]]) -> Bool[np.ndarray, "b w p"]:
        """Patches whose ratio of spacings may reach a limit for any k, in each window; here all, to be tested."""
        return np.broadcast_to(np.True_, (len(self.chosen), len(windows), self.shape[2]))

    def _of_each(
        self,
        shape: tuple[int, ...],
        work: Callable[[int, Float[np.ndarray, "m p"]], np.ndarray],
        dtype: type | np.dtype | None = None,
    ) -> np.ndarray:
        """`work` on the number of each image and its distances."""
        found = np.empty((len(self.chosen), *shape), dtype or self.values.dtype)
        waiting = iter(range(len(found)))

        def take(_: int) -> None:
            for i in waiting:
                found[i] = work(i, self.values[self.chosen[i]])

        # numpy's sorting releases the interpreter; a task for each image would cost more than the cheapest work
        with ThreadPoolExecutor(CPU_THREADS) as pool:
            list(pool.map(take, range(CPU_THREADS)))
        return found


def _at_ranks(values: Float[np.ndarray, "c v"], ranks: Int[np.ndarray, " w"]) -> Float[np.ndarray, "w v"]:
    """The values at ranks along the first axis, in ascending order; infinite beyond the last."""
    found = np.full((len(ranks), values.shape[1]), np.inf, values.dtype)
    there = ranks <= len(values)
    if there.any():
        found[there] = np.partition(values, ranks[there] - 1, axis=0)[ranks[there] - 1]
    return found
