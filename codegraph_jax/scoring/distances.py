"""Mean distances of all patches to all references, and their order statistics.

The table is split into blocks of images, on the host or on devices; each block computes its statistics where it lies.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import arrays_at_once, in_threads
from codegraph_jax.scoring.device_block import DeviceBlock
from codegraph_jax.scoring.host_block import Columns, HostBlock
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.device_tables import DeviceMeanDistances

T = TypeVar("T")

Block = HostBlock | DeviceBlock
Images = Sequence[int] | Int[np.ndarray, " b"]
Compute = Callable[[Block, Any], T]
"""Called with a block and the indices of its images in the result: a slice or indices [b]."""


class Distances:
    """Distances of the p patches of n images to m references, in consecutive blocks of images.

    Distances to excluded references are infinite; distances of patches that are not inspected are negative
    (`similarity.valid`). `references` has the image of each column, -1 for one outside of the set. In all methods
    `images` are image indices; None: all images.
    """

    def __init__(self, blocks: Sequence[Block], references: Int[np.ndarray, " m"]):
        self._blocks, self.references = blocks, references

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, m, p)."""
        return len(self), *self._blocks[0].shape[1:]

    def __len__(self) -> int:
        """Number of images."""
        return sum(block.shape[0] for block in self._blocks)

    def exclude(self, pairs: Bool[np.ndarray, "n m"]) -> "Distances":
        """The distances without some references for some images; this object must not be used afterwards."""
        return Distances(self._by_block(lambda block, at: block.exclude(pairs[at])), self.references)

    def select(self, images: slice) -> "Distances":
        """The distances of a slice of the images."""
        return Distances(self._by_block(lambda block, at: block, np.arange(len(self))[images]), self.references)

    def columns_of(self, images: Images) -> Int[np.ndarray, " c"]:
        """The columns of those images that are references, ascending."""
        return np.flatnonzero(np.isin(self.references, images))

    def usable(self) -> Bool[np.ndarray, "n m"]:
        """Which references are not excluded for an image."""
        return self._gather(lambda block, at: block.usable(slice(None)))

    def valid(self) -> Bool[np.ndarray, "n p"]:
        """Which patches are inspected, and so have distances."""
        return self._gather(lambda block, at: block.valid())

    def scores(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> Float[np.ndarray, "b p"]:
        """Mutual scores: the mean of the k smallest distances to some references."""
        return self._gather(lambda block, at: block.mean_of_smallest(k, columns), images)

    def smallest(self, ranks: Sequence[int]) -> Float[np.ndarray, "n w p"]:
        """The distances of each patch at these ranks in ascending order, from 1."""
        return self._kth(np.tile(np.array(ranks, int), (len(self), 1)))

    def kth(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> Float[np.ndarray, "b p"]:
        """The k-th smallest distance to some references, k from 1; infinite if fewer are usable."""
        count = len(self) if images is None else len(images)
        return self._kth(np.full((count, 1), k), columns, images)[:, 0]

    def quantile(
        self, share: float, columns: Columns = slice(None), images: Images | None = None
    ) -> Float[np.ndarray, "b p"]:
        """A quantile of the distances to the usable ones of some references; infinite if none is usable.

        It is interpolated as in `np.quantile`; between a finite and an infinite distance it is infinite.
        """
        usable = self._gather(lambda block, at: block.usable(columns), images)
        position = share * np.maximum(usable.sum(axis=1) - 1, 0)
        ends = np.stack([np.floor(position), np.ceil(position)], axis=1).astype(int)
        below, above = self._kth(ends + 1, columns, images).swapaxes(0, 1)
        weight = (position - ends[:, 0])[:, None]
        with np.errstate(invalid="ignore"):
            step = above - below
            up, down = below + step * weight.astype(step.dtype), above - step * (1 - weight).astype(step.dtype)
        return np.where(np.isfinite(above), np.where(weight < 0.5, up, down), above)

    def medians(self, patches: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        """The median distance of some patches of each image to each reference; infinite without patches."""
        count = patches.sum(axis=1)
        ranks = np.maximum(np.stack([(count + 1) // 2, count // 2 + 1], axis=1), 1)
        low, high = self._gather(lambda block, at: block.kth_patch(ranks[at], patches[at], None)).swapaxes(0, 1)
        return (low + high) / 2

    def relative_distances(self, rank: int, share: float) -> Float[np.ndarray, "n m"]:
        """The `share` quantile, over the patches of each image, of their relative distance to each reference.

        The relative distance of a patch is its distance to the reference, divided by its `rank`-th smallest distance to
        any reference (1: the smallest). The result is infinite for images without inspected patches.
        """
        valid = self.valid()
        ranks = np.maximum((share * (valid.sum(axis=1) - 1)).astype(int), 0)[:, None] + 1
        unit = self.kth(rank)
        # a patch with fewer references than the rank gets larger multiples than any other
        unit[~(np.isfinite(unit) & (unit > 1e-12))] = 1e-12
        distances = self._gather(lambda block, at: block.kth_patch(ranks[at], valid[at], unit[at]))
        return distances[:, 0].astype(np.float64)

    def of_images(self, images: Images) -> Iterator[Float[np.ndarray, "m p"]]:
        """Yields the distances of each image."""
        images = list(images)
        size = arrays_at_once(4 * self.shape[1] * self.shape[2])
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            by_index = dict(chain(*self._by_block(lambda block, at: zip(at.tolist(), block.all_distances()), batch)))
            yield from (by_index[index] for index in range(len(batch)))

    def patch_distances(self, image: Int[np.ndarray, " e"], patch: Int[np.ndarray, " e"]) -> Float[np.ndarray, "e m"]:
        """The distances of patches given by image and index."""
        return self._gather(lambda block, at: block.patch_distances(patch[at]), image)

    def each(
        self,
        mask: Bool[np.ndarray, "n p"],
        work: Callable[[int, Int[np.ndarray, " e"], Float[np.ndarray, "e m"]], T],
    ) -> list[T]:
        """Calls `work`, in threads, with each image, the indices of its patches in the mask and their distances."""
        rows = list(chain(*self._by_block(lambda block, at: block.distances_by_image(mask[at]))))
        return in_threads(lambda i: work(i, np.flatnonzero(mask[i]), rows[i]()), range(len(self)))

    def candidates(self, windows: list[int], limits: Sequence[Float[np.ndarray, " k"]]) -> Bool[np.ndarray, "n w p"]:
        """Which patches may burn out (`consistency.links`), by window: their ratio of spacings may reach a limit."""
        return self._gather(lambda block, at: block.candidates(windows, limits))

    def _kth(
        self, ranks: Int[np.ndarray, "b w"], columns: Columns = slice(None), images: Images | None = None
    ) -> Float[np.ndarray, "b w p"]:
        return self._gather(lambda block, at: block.kth_reference(ranks[at], columns), images)

    def _gather(self, compute: Compute[np.ndarray], images: Images | None = None) -> np.ndarray:
        """Rows that `compute` returns for all blocks, in the order of the images."""
        indices, rows = zip(*self._by_block(lambda block, at: (at, compute(block, at)), images))
        if len(rows) == 1:
            return rows[0]
        joined = np.concatenate(rows)
        return joined if images is None else joined[np.argsort(np.concatenate(indices))]

    def _by_block(self, compute: Compute[T], images: Images | None = None) -> list[T]:
        """Results of `compute` for the images of each block; all blocks compute at the same time."""
        numbers = None if images is None else np.arange(len(self))[np.asarray(images, int)]
        first, tasks = 0, []
        for block in self._blocks:
            block_rows = slice(first, first + block.shape[0])
            if numbers is None:
                tasks.append(partial(compute, block, block_rows))
            else:
                at = np.flatnonzero((numbers >= block_rows.start) & (numbers < block_rows.stop))
                tasks.append(partial(compute, block.select(numbers[at] - block_rows.start), at))
            first = block_rows.stop
        if len(tasks) == 1:
            return [tasks[0]()]
        with ThreadPoolExecutor(len(tasks)) as pool:
            return list(pool.map(lambda task: task(), tasks))


def distances_of(comparison: Comparison) -> Distances:
    """Distances of a comparison, averaged over layers and degrees; the comparison is not changed."""
    return Distances(list(map(_block, comparison.tables.means())), comparison.references)


def as_distances(array: Float[np.ndarray, "n m p"], references: Int[np.ndarray, " m"] | None = None) -> Distances:
    """The distances in an array on the host; without `references` all columns are of images outside of the set."""
    return Distances([_block(array)], np.full(array.shape[1], -1) if references is None else references)


def _block(mean: DeviceMeanDistances | Float[np.ndarray, "n m p"]) -> Block:
    if isinstance(mean, DeviceMeanDistances):
        return DeviceBlock(mean.values, mean.reference_count, np.arange(mean.image_count))
    return HostBlock(mean, np.arange(len(mean)))
