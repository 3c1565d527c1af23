"""Mean distances of all patches to all references, as the later stages ask for them.

The stages ask for order statistics of the table. It lies in blocks of images, in the memory of the host or on devices,
and each block computes its part where it is.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS, at_once
from codegraph_jax.scoring.device_block import DeviceBlock
from codegraph_jax.scoring.host_block import Columns, HostBlock
from codegraph_jax.similarity.comparison import Comparison, DeviceMean

T = TypeVar("T")

Block = HostBlock | DeviceBlock
Images = Sequence[int] | Int[np.ndarray, " b"]
Compute = Callable[[Block, Any], T]
"""Takes a block and the places of its images among all images that are meant: a slice, or their numbers [b]."""


class Distances:
    """Distances of the patches of n images to m references, in blocks of images that follow one another.

    They are infinite where a reference must not serve, and `NOT_JUDGED` for a patch that is not judged. `images` are
    numbers of images; None: all.
    """

    def __init__(self, blocks: Sequence[Block]):
        self._blocks = blocks

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, m, p)."""
        return len(self), *self._blocks[0].shape[1:]

    def __len__(self) -> int:
        """How many images there are."""
        return sum(block.shape[0] for block in self._blocks)

    def without(self, pairs: Bool[np.ndarray, "n m"]) -> "Distances":
        """The same with references that must not serve an image; the old ones are not to be used any more."""
        return Distances(self._by_block(lambda block, at: block.without(pairs[at])))

    def some(self, images: slice) -> "Distances":
        """Those of a stretch of the images."""
        return Distances(self._by_block(lambda block, at: block, np.arange(len(self))[images]))

    def serves(self) -> Bool[np.ndarray, "n m"]:
        """Which references serve an image at all."""
        return self._gather(lambda block, at: block.serves(slice(None)))

    def judged(self) -> Bool[np.ndarray, "n p"]:
        """Which patches are judged (`similarity.judged`)."""
        return self._gather(lambda block, at: block.judged())

    def scores(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> Float[np.ndarray, "b p"]:
        """Mutual scores of images: the mean of the k smallest distances to some references."""
        return self._gather(lambda block, at: block.mean_of_smallest(k, columns), images)

    def smallest(self, places: Sequence[int]) -> Float[np.ndarray, "n w p"]:
        """The distances of each patch that come at these places in ascending order; the first is 0."""
        return self._kth(np.tile(np.array(places, int) + 1, (len(self), 1)))

    def kth(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> Float[np.ndarray, "b p"]:
        """The k-th smallest distance to some references; infinite where fewer serve."""
        count = len(self) if images is None else len(images)
        return self._kth(np.full((count, 1), k), columns, images)[:, 0]

    def quantile(
        self, share: float, columns: Columns = slice(None), images: Images | None = None
    ) -> Float[np.ndarray, "b p"]:
        """A quantile of the distances to those of some references that serve; infinite where none does.

        It is interpolated as by `np.quantile`; between a finite and an infinite distance it is infinite.
        """
        serving = self._gather(lambda block, at: block.serves(columns), images)
        place = share * np.maximum(serving.sum(axis=1) - 1, 0)
        ends = np.stack([np.floor(place), np.ceil(place)], axis=1).astype(int)
        below, above = self._kth(ends + 1, columns, images).swapaxes(0, 1)
        weight = (place - ends[:, 0])[:, None]
        with np.errstate(invalid="ignore"):
            step = above - below
            up, down = below + step * weight.astype(step.dtype), above - step * (1 - weight).astype(step.dtype)
        return np.where(np.isfinite(above), np.where(weight < 0.5, up, down), above)

    def medians(self, patches: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        """The median over some patches of each image, of its distances to each reference; infinite without patches."""
        count = patches.sum(axis=1)
        ranks = np.maximum(np.stack([(count + 1) // 2, count // 2 + 1], axis=1), 1)
        low, high = self._gather(lambda block, at: block.kth_patch(ranks[at], patches[at], None)).swapaxes(0, 1)
        return (low + high) / 2

    def agreement(self, rank: int, share: float) -> Float[np.ndarray, "n m"]:
        """What a share of an image's judged patches stay below, as multiples of their distance to the reference that
        comes at a rank, from 1; infinite where none is judged."""
        judged = self.judged()
        ranks = np.maximum((share * (judged.sum(axis=1) - 1)).astype(int), 0)[:, None] + 1
        unit = self.kth(rank)
        # a patch with fewer references than the rank has multiples beyond all others
        unit[~(np.isfinite(unit) & (unit > 1e-12))] = 1e-12
        found = self._gather(lambda block, at: block.kth_patch(ranks[at], judged[at], unit[at]))
        return found[:, 0].astype(np.float64)

    def images(self, chosen: Images) -> Iterator[Float[np.ndarray, "m p"]]:
        """The distances of chosen images, one after the other."""
        chosen = list(chosen)
        size = at_once(4 * self.shape[1] * self.shape[2])
        for start in range(0, len(chosen), size):
            some = chosen[start : start + size]
            found = dict(chain(*self._by_block(lambda block, at: zip(at.tolist(), block.images()), some)))
            yield from (found[place] for place in range(len(some)))

    def rows(self, image: Int[np.ndarray, " e"], patch: Int[np.ndarray, " e"]) -> Float[np.ndarray, "e m"]:
        """The distances of chosen patches."""
        return self._gather(lambda block, at: block.rows(patch[at]), image)

    def each(
        self,
        chosen: Bool[np.ndarray, "n p"],
        work: Callable[[int, Int[np.ndarray, " e"], Float[np.ndarray, "e m"]], T],
    ) -> list[T]:
        """`work` on every image, the numbers of its chosen patches and their distances; in threads."""
        rows = list(chain(*self._by_block(lambda block, at: block.rows_by_image(chosen[at]))))
        with ThreadPoolExecutor(CPU_THREADS) as pool:
            return list(pool.map(lambda i: work(i, np.flatnonzero(chosen[i]), rows[i]()), range(len(self))))

    def reaching(self, windows: Sequence[int], least: Sequence[Float[np.ndarray, " k"]]) -> Bool[np.ndarray, "n w p"]:
        """Which patches may burn out (`consistency.links`): those whose ratio of spacings nearly reaches a limit for
        any k, in each window."""
        return self._gather(lambda block, at: block.reaching(windows, least))

    def _kth(
        self, ranks: Int[np.ndarray, "b w"], columns: Columns = slice(None), images: Images | None = None
    ) -> Float[np.ndarray, "b w p"]:
        return self._gather(lambda block, at: block.kth_reference(ranks[at], columns), images)

    def _gather(self, compute: Compute[np.ndarray], images: Images | None = None) -> np.ndarray:
        """The rows that `compute` returns for all blocks, in the order of the images."""
        places, rows = zip(*self._by_block(lambda block, at: (at, compute(block, at)), images))
        if len(rows) == 1:
            return rows[0]
        joined = np.concatenate(rows)
        return joined if images is None else joined[np.argsort(np.concatenate(places))]

    def _by_block(self, compute: Compute[T], images: Images | None = None) -> list[T]:
        """What `compute` returns for the images of each block; all blocks compute at the same time."""
        numbers = None if images is None else np.arange(len(self))[np.asarray(images, int)]
        first, parts = 0, []
        for block in self._blocks:
            own = slice(first, first + block.shape[0])
            if numbers is None:
                parts.append(partial(compute, block, own))
            else:
                at = np.flatnonzero((numbers >= own.start) & (numbers < own.stop))
                parts.append(partial(compute, block.some(numbers[at] - own.start), at))
            first = own.stop
        if len(parts) == 1:
            return [parts[0]()]
        with ThreadPoolExecutor(len(parts)) as pool:
            # copies are counted in the caller's context
            return [part.result() for part in [pool.submit(copy_context().run, part) for part in parts]]


def mean_of(comparison: Comparison) -> Distances:
    """Mean over layers and degrees, on which all decisions are made; nothing of the comparison is changed."""
    return Distances(list(map(_block, comparison.tables.means())))


def as_distances(distances: Distances | Float[np.ndarray, "n m p"]) -> Distances:
    """An array of the host as the later stages ask for distances."""
    if isinstance(distances, Distances):
        return distances
    return Distances([_block(distances)])


def _block(mean: DeviceMean | Float[np.ndarray, "n m p"]) -> Block:
    if isinstance(mean, DeviceMean):
        return DeviceBlock(mean.values, mean.references, np.arange(mean.images))
    return HostBlock(mean, np.arange(len(mean)))
