"""Mean distances of all patches to all references, as the later stages ask for them: on the host, or on a device.

What the stages want to know of the whole table are order statistics of it. On a CPU numpy's partition gives them
fastest; a table that lies on an accelerator gives them where it is (`codegraph_jax.scoring.on_device`).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS, at_once
from codegraph_jax.similarity.host_tables import mutual_scores
from codegraph_jax.similarity.judged import judged_patches

T = TypeVar("T")

SMALLEST_DISTANCE, FARTHEST = 1e-4, 2.0
"""Between these distances are clamped before their logarithm is taken: float32 products leave no more near zero, and
unit vectors are no farther apart."""

Columns = Int[np.ndarray, " c"] | slice
Images = Sequence[int] | Int[np.ndarray, " b"]


class Distances(Protocol):
    """Distances of the patches of n images to m references; infinite where a reference must not serve.

    Attributes:
        shape: (n, m, p).
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int:
        """How many images there are."""

    def without(self, pairs: Bool[np.ndarray, "n m"]) -> "Distances":
        """The same with references that must not serve an image; the old ones are not to be used any more."""

    def some(self, images: slice) -> "Distances":
        """Those of a stretch of the images."""

    def serves(self) -> Bool[np.ndarray, "n m"]:
        """Which references serve an image at all."""

    def judged(self) -> Bool[np.ndarray, "n p"]:
        """Which patches are judged (`similarity.judged`)."""

    def scores(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> np.ndarray:
        """Mutual scores of images [b, p]: the mean of the k smallest distances to some references."""

    def smallest(self, places: Sequence[int]) -> Float[np.ndarray, "n w p"]:
        """The distances of each patch that come at these places in ascending order; the first is 0."""

    def kth(self, k: int, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        """The k-th smallest distance to some references; infinite where fewer serve."""

    def quantile(self, share: float, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        """A quantile of the distances to those of some references that serve; infinite where none does."""

    def medians(self, patches: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        """The median over some patches of each image, of its distances to each reference."""

    def agreement(self, rank: int, share: float) -> Float[np.ndarray, "n m"]:
        """What a share of an image's judged patches stay below, as multiples of their distance to the reference that
        comes at a rank, from 1; infinite where none is judged."""

    def images(self, chosen: Images) -> Iterator[Float[np.ndarray, "m p"]]:
        """The distances of chosen images, one after the other."""

    def rows(self, image: Int[np.ndarray, " e"], patch: Int[np.ndarray, " e"]) -> Float[np.ndarray, "e m"]:
        """The distances of chosen patches."""

    def each(
        self,
        chosen: Bool[np.ndarray, "n p"],
        work: Callable[[int, Int[np.ndarray, " e"], Float[np.ndarray, "e m"]], T],
    ) -> list[T]:
        """`work` on every image, the numbers of its chosen patches and their distances; in threads."""

    def reaching(
        self, windows: Sequence[int], least: Sequence[Float[np.ndarray, " k"]]
    ) -> Bool[np.ndarray, "n w p"] | None:
        """Which patches may burn out (`consistency.links`): those whose ratio of spacings nearly reaches what it must,
        for any k, in each window; None: no cheaper to say than to look."""


class HostDistances:
    """`Distances` in an array of the host [n, m, p]."""

    def __init__(self, values: Float[np.ndarray, "n m p"]):
        self.values = values

    @property
    def shape(self) -> tuple[int, int, int]:
        n, m, p = self.values.shape
        return n, m, p

    def __len__(self) -> int:
        return len(self.values)

    def without(self, pairs: Bool[np.ndarray, "n m"]) -> "HostDistances":
        # in place: there may be no room for another table
        self.values[pairs] = np.inf
        return self

    def some(self, images: slice) -> "HostDistances":
        return HostDistances(self.values[images])

    def serves(self) -> Bool[np.ndarray, "n m"]:
        found = [np.isfinite(to_references).any(axis=1) for to_references in self.values]
        return np.array(found, bool).reshape(self.shape[:2])

    def judged(self) -> Bool[np.ndarray, "n p"]:
        return np.array([judged_patches(x) for x in self.values], bool).reshape(len(self), self.shape[2])

    def scores(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> np.ndarray:
        if images is None and isinstance(columns, slice):
            return mutual_scores(self.values[None], k, columns)[0]
        chosen = np.arange(len(self)) if images is None else np.asarray(images, int)
        # some at a time: all of them may be a good part of the memory
        size = at_once(self.values.itemsize * self.shape[1] * self.shape[2])
        parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        nothing = np.zeros((0, self.shape[2]), np.float32)
        return np.concatenate([nothing, *(mutual_scores(self.values[None, i], k, columns)[0] for i in parts)])

    def smallest(self, places: Sequence[int]) -> Float[np.ndarray, "n w p"]:
        return np.stack(self._threads(lambda i: np.partition(self.values[i], places, axis=0)[list(places)]))

    def kth(self, k: int, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        def of(i: int) -> Float[np.ndarray, " p"]:
            serving = self._serving(i, columns)
            return _nowhere(serving) if len(serving) < k else np.partition(serving, k - 1, axis=0)[k - 1]

        return self._each_of(images, of)

    def quantile(self, share: float, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        def of(i: int) -> Float[np.ndarray, " p"]:
            serving = self._serving(i, columns)
            return np.quantile(serving, share, axis=0) if len(serving) else _nowhere(serving)

        return self._each_of(images, of)

    def medians(self, patches: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        return np.stack(self._threads(lambda i: np.median(self.values[i][:, patches[i]], axis=1)))

    def agreement(self, rank: int, share: float) -> Float[np.ndarray, "n m"]:
        found = np.full(self.shape[:2], np.inf)
        for agreement, distances in zip(found, self.values):
            judged = judged_patches(distances)
            if not judged.any():
                continue
            if not judged.all():
                distances = distances[:, judged]
            place = int(share * (distances.shape[1] - 1))
            usual = np.maximum(np.partition(distances, rank - 1, axis=0)[rank - 1], 1e-12)
            # a patch that has hardly anybody to be judged by says nothing
            usual[~np.isfinite(usual)] = 1e-12
            agreement[:] = np.partition(distances / usual, place, axis=1)[:, place]
        return found

    def images(self, chosen: Images) -> Iterator[Float[np.ndarray, "m p"]]:
        return (self.values[i] for i in chosen)

    def rows(self, image: Int[np.ndarray, " e"], patch: Int[np.ndarray, " e"]) -> Float[np.ndarray, "e m"]:
        return self.values[image, :, patch]

    def each(
        self,
        chosen: Bool[np.ndarray, "n p"],
        work: Callable[[int, Int[np.ndarray, " e"], Float[np.ndarray, "e m"]], T],
    ) -> list[T]:
        def of(i: int) -> T:
            patches = np.flatnonzero(chosen[i])
            return work(i, patches, self.values[i][:, patches].T)

        return self._threads(of)

    def reaching(
        self, windows: Sequence[int], least: Sequence[Float[np.ndarray, " k"]]
    ) -> Bool[np.ndarray, "n w p"] | None:
        return None

    def _serving(self, i: int, columns: Columns) -> Float[np.ndarray, "c p"]:
        to_references = self.values[i][columns]
        return to_references[np.isfinite(to_references).any(axis=1)]

    def _each_of(self, images: Images, work: Callable[[int], np.ndarray]) -> Float[np.ndarray, "b p"]:
        return np.array([work(i) for i in images], np.float32).reshape(-1, self.shape[2])

    def _threads(self, work: Callable[[int], T]) -> list[T]:
        """`work` on every image; numpy's sorting releases the interpreter."""
        with ThreadPoolExecutor(CPU_THREADS) as pool:
            return list(pool.map(work, range(len(self))))


def _nowhere(serving: Float[np.ndarray, "c p"]) -> Float[np.ndarray, " p"]:
    return np.full(serving.shape[1], np.inf, np.float32)
