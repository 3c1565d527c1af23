"""Mean distances of which several devices have some images each: every one answers for its own, all at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.scoring.distances import Columns, Images
from codegraph_jax.scoring.on_device import DeviceDistances

T = TypeVar("T")


@dataclass(frozen=True)
class SpreadDistances:
    """`scoring.distances.Distances` over several devices; methods as there.

    Attributes:
        parts: of images that follow one another.
    """

    parts: Sequence[DeviceDistances]

    @property
    def shape(self) -> tuple[int, int, int]:
        _, references, patches = self.parts[0].shape
        return len(self), references, patches

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def without(self, pairs: Bool[np.ndarray, "n m"]) -> "SpreadDistances":
        return SpreadDistances([part.without(pairs[own]) for part, own in self._stretches()])

    def some(self, images: slice) -> "SpreadDistances":
        start, stop, _ = images.indices(len(self))
        chosen = []
        for part, own in self._stretches():
            first = max(start - own.start, 0)
            chosen.append(part.some(slice(first, max(stop - own.start, first))))
        return SpreadDistances(chosen)

    def serves(self) -> Bool[np.ndarray, "n m"]:
        return self._joined(lambda part, own: part.serves())

    def judged(self) -> Bool[np.ndarray, "n p"]:
        return self._joined(lambda part, own: part.judged())

    def scores(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> np.ndarray:
        found = self._joined(lambda part, own: part.scores(k, columns))
        return found if images is None else found[np.asarray(images, int)]

    def smallest(self, places: Sequence[int]) -> Float[np.ndarray, "n w p"]:
        return self._joined(lambda part, own: part.smallest(places))

    def kth(self, k: int, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        found = self._joined(lambda part, own: part.kth(k, columns, np.arange(len(part))))
        return found[np.asarray(images, int)]

    def quantile(self, share: float, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        found = self._joined(lambda part, own: part.quantile(share, columns, np.arange(len(part))))
        return found[np.asarray(images, int)]

    def medians(self, patches: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        return self._joined(lambda part, own: part.medians(patches[own]))

    def agreement(self, rank: int, share: float) -> Float[np.ndarray, "n m"]:
        return self._joined(lambda part, own: part.agreement(rank, share))

    def images(self, chosen: Images) -> Iterator[Float[np.ndarray, "m p"]]:
        chosen = np.asarray(chosen, int)
        stretches, holder = self._stretches(), self._holder(chosen)
        for number, places in groupby(range(len(chosen)), key=lambda place: int(holder[place])):
            part, own = stretches[number]
            yield from part.images(chosen[list(places)] - own.start)

    def rows(self, image: Int[np.ndarray, " e"], patch: Int[np.ndarray, " e"]) -> Float[np.ndarray, "e m"]:
        found = np.zeros((len(image), self.shape[1]), np.float32)

        def fetch(part: DeviceDistances, own: slice) -> None:
            mine = np.flatnonzero((image >= own.start) & (image < own.stop))
            found[mine] = part.rows(image[mine] - own.start, patch[mine])

        self._all(fetch)
        return found

    def each(
        self,
        chosen: Bool[np.ndarray, "n p"],
        work: Callable[[int, Int[np.ndarray, " e"], Float[np.ndarray, "e m"]], T],
    ) -> list[T]:
        def of(part: DeviceDistances, own: slice) -> list[T]:
            return part.each(chosen[own], lambda i, patches, rows: work(i + own.start, patches, rows))

        return [result for results in self._all(of) for result in results]

    def reaching(
        self, windows: Sequence[int], least: Sequence[Float[np.ndarray, " k"]]
    ) -> Bool[np.ndarray, "n w p"] | None:
        def of(part: DeviceDistances, own: slice) -> np.ndarray:
            found = part.reaching(windows, least)
            assert found is not None
            return found

        return self._joined(of)

    def _stretches(self) -> list[tuple[DeviceDistances, slice]]:
        """The parts, and which images they are."""
        ends = np.cumsum([len(part) for part in self.parts]).tolist()
        return [(part, slice(end - len(part), end)) for part, end in zip(self.parts, ends)]

    def _holder(self, images: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Number of the part that has an image."""
        return np.searchsorted(np.cumsum([len(part) for part in self.parts]), images, side="right")

    def _joined(self, ask: Callable[[DeviceDistances, slice], np.ndarray]) -> np.ndarray:
        return np.concatenate(self._all(ask))

    def _all(self, ask: Callable[[DeviceDistances, slice], T]) -> list[T]:
        """Asks all parts at once: each waits for its device."""
        with ThreadPoolExecutor(len(self.parts)) as pool:
            # copies are counted in the caller's context
            asked = [
                pool.submit(lambda context, part, own: context.run(ask, part, own), copy_context(), part, own)
                for part, own in self._stretches()
            ]
            return [future.result() for future in asked]
