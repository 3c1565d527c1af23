"""Mean distances that lie on a device: what the stages ask of them is found there, and only that comes to the host."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS, at_once
from codegraph_jax.core.sizes import padded
from codegraph_jax.core.transfers import to_device, to_host
from codegraph_jax.scoring.distances import FARTHEST, SMALLEST_DISTANCE, Columns, Images
from codegraph_jax.similarity.comparison import DeviceMean
from codegraph_jax.similarity.order import kth_smallest, mean_of_smallest
from codegraph_jax.similarity.programs import TOGETHER

T = TypeVar("T")

ROWS = (1024, 16384, 131072)
"""Patches whose distances come to the host at once are padded to one of these, so that few programs are compiled."""

WINDOWS = 4
"""Windows that are looked at together at least, those that the set has and others that nothing reaches."""


@dataclass(frozen=True)
class DeviceDistances:
    """`scoring.distances.Distances` on a device; methods as there.

    Attributes:
        values: infinite in the rows and columns that fill it up [s, t, p].
        first: the first image that counts.
        count: how many do.
        references: how many there are.
    """

    values: Float[Array, "s t p"]
    first: int
    count: int
    references: int

    @classmethod
    def of(cls, mean: DeviceMean) -> "DeviceDistances":
        return cls(mean.values, 0, mean.images, mean.references)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.count, self.references, self.values.shape[2]

    def __len__(self) -> int:
        return self.count

    def without(self, pairs: Bool[np.ndarray, "n m"]) -> "DeviceDistances":
        barred = np.zeros(self.values.shape[:2], bool)
        barred[self.first : self.first + self.count, : self.references] = pairs
        return replace(self, values=_without(self.values, self._there(barred)))

    def some(self, images: slice) -> "DeviceDistances":
        chosen = range(self.count)[images]
        return replace(self, first=self.first + chosen.start, count=len(chosen))

    def serves(self) -> Bool[np.ndarray, "n m"]:
        return self._own(_serves(self.values))[:, : self.references]

    def judged(self) -> Bool[np.ndarray, "n p"]:
        return self._own(_judged(self.values))

    def scores(self, k: int, columns: Columns = slice(None), images: Images | None = None) -> np.ndarray:
        found = self._own(_scores(self.values, self._there(np.int32(k)), self._columns(columns)))
        return found if images is None else found[np.asarray(images, int)]

    def smallest(self, places: Sequence[int]) -> Float[np.ndarray, "n w p"]:
        everybody = self._columns(slice(None))
        ks = [self._there(np.full(len(self.values), place + 1, np.int32)) for place in places]
        return np.stack([self._own(x) for x in [_kth(self.values, k, everybody) for k in ks]], axis=1)

    def kth(self, k: int, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        ks = self._there(np.full(len(self.values), k, np.int32))
        return self._own(_kth(self.values, ks, self._columns(columns)))[np.asarray(images, int)]

    def quantile(self, share: float, columns: Columns, images: Images) -> Float[np.ndarray, "b p"]:
        chosen = self._columns(columns)
        counts = to_host(_counts(self.values, chosen))
        place = share * np.maximum(counts - 1, 0)
        low = place.astype(np.int32)
        below, above = (
            self._own(_kth(self.values, self._there(np.minimum(k, np.maximum(counts, 1)).astype(np.int32)), chosen))
            for k in (low + 1, low + 2)
        )
        weight = (place - low)[self.first : self.first + self.count, None].astype(np.float32)
        # what is infinitely far stays so
        found = np.where(np.isfinite(above), below + weight * (np.where(np.isfinite(above), above, 0) - below), above)
        return np.where(weight > 0, found, below)[np.asarray(images, int)]

    def medians(self, patches: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        counted, count = self._rows(patches), self._rows(patches.sum(axis=1).astype(np.int32))
        chosen = self._there(counted)
        middle = [self._there(np.maximum(k, 1)) for k in ((count + 1) // 2, count // 2 + 1)]
        low, high = (self._own(_kth_patch(self.values, k, chosen))[:, : self.references] for k in middle)
        return (low + high) / 2

    def agreement(self, rank: int, share: float) -> Float[np.ndarray, "n m"]:
        judged = self.judged()
        count = judged.sum(axis=1)
        place = self._rows(np.maximum((share * (count - 1)).astype(np.int32), 0) + 1)
        given = self._there(np.int32(rank)), self._there(place), self._there(self._rows(judged))
        return self._own(_agreement(self.values, *given))[:, : self.references].astype(np.float64)

    def images(self, chosen: Images) -> Iterator[Float[np.ndarray, "m p"]]:
        chosen = list(chosen)
        size = at_once(4 * self.values.shape[1] * self.values.shape[2])
        for start in range(0, len(chosen), size):
            part = self.first + np.array(chosen[start : start + size], np.int32)
            filled = np.pad(part, (0, padded(len(part)) - len(part)), mode="edge")
            yield from to_host(_images(self.values, self._there(filled)))[: len(part), : self.references]

    def rows(self, image: Int[np.ndarray, " e"], patch: Int[np.ndarray, " e"]) -> Float[np.ndarray, "e m"]:
        parts = [np.zeros((0, self.references), np.float32)]
        for start in range(0, len(image), ROWS[-1]):
            some = slice(start, start + ROWS[-1])
            places = np.stack([self.first + image[some], patch[some]]).astype(np.int32)
            count = places.shape[1]
            length = next(length for length in ROWS if length >= count)
            there = self._there(np.pad(places, ((0, 0), (0, length - count)), mode="edge"))
            parts.append(to_host(_patches(self.values, there))[:count, : self.references])
        return np.concatenate(parts)

    def each(
        self,
        chosen: Bool[np.ndarray, "n p"],
        work: Callable[[int, Int[np.ndarray, " e"], Float[np.ndarray, "e m"]], T],
    ) -> list[T]:
        image, patch = np.nonzero(chosen)
        rows, ends = self.rows(image, patch), np.searchsorted(image, np.arange(self.count + 1))

        def of(i: int) -> T:
            own = slice(ends[i], ends[i + 1])
            return work(i, patch[own], rows[own])

        with ThreadPoolExecutor(CPU_THREADS) as pool:
            return list(pool.map(of, range(self.count)))

    def reaching(
        self, windows: Sequence[int], least: Sequence[Float[np.ndarray, " k"]]
    ) -> Bool[np.ndarray, "n w p"] | None:
        # small sets have fewer windows than others: the program shall be the same
        count = max(len(windows), WINDOWS)
        sizes, limits = np.full(count, 2, np.int32), np.full((count, self.values.shape[1]), np.inf, np.float32)
        sizes[: len(windows)] = windows
        for row, values in zip(limits, least):
            row[: len(values)] = values
        return self._own(_reaching(self.values, self._there(sizes), self._there(limits)))[:, : len(windows)]

    def _own(self, values: Array) -> np.ndarray:
        """On the host, without the rows that do not count."""
        return to_host(values)[self.first : self.first + self.count]

    def _there(self, values: Any) -> Array:
        (device,) = self.values.devices()
        return to_device(values, device)

    def _rows(self, values: np.ndarray) -> np.ndarray:
        filled = np.zeros((len(self.values), *values.shape[1:]), values.dtype)
        filled[self.first : self.first + self.count] = values
        return filled

    def _columns(self, columns: Columns) -> Bool[Array, " t"]:
        mask = np.zeros(self.references, bool)
        mask[columns] = True
        return self._there(np.pad(mask, (0, self.values.shape[1] - self.references)))


@jax.jit
def _without(values: Float[Array, "s t p"], barred: Bool[Array, "s t"]) -> Float[Array, "s t p"]:
    return jnp.where(barred[..., None], jnp.inf, values)


@jax.jit
def _serves(values: Float[Array, "s t p"]) -> Bool[Array, "s t"]:
    return jnp.isfinite(values).any(axis=2)


@jax.jit
def _judged(values: Float[Array, "s t p"]) -> Bool[Array, "s p"]:
    return values.min(axis=1) >= 0


@jax.jit
def _counts(values: Float[Array, "s t p"], columns: Bool[Array, " t"]) -> Int[Array, " s"]:
    return (jnp.isfinite(values).any(axis=2) & columns).sum(axis=1)


@jax.jit
def _scores(values: Float[Array, "s t p"], k: Int[Array, ""], columns: Bool[Array, " t"]) -> Float[Array, "s p"]:
    return lax.map(lambda x: mean_of_smallest(x, k, 0, columns[:, None]), values, batch_size=TOGETHER)


@jax.jit
def _kth(values: Float[Array, "s t p"], k: Int[Array, " s"], columns: Bool[Array, " t"]) -> Float[Array, "s p"]:
    def of(given: tuple[Array, Array]) -> Array:
        distances, own = given
        serving = jnp.isfinite(distances).any(axis=1) & columns
        return kth_smallest(distances, own, 0, serving[:, None])[0]

    return lax.map(of, (values, k), batch_size=TOGETHER)


@jax.jit
def _kth_patch(values: Float[Array, "s t p"], k: Int[Array, " s"], counted: Bool[Array, "s p"]) -> Float[Array, "s t"]:
    def of(given: tuple[Array, Array, Array]) -> Array:
        distances, own, patches = given
        return kth_smallest(distances, own, 1, patches[None])[:, 0]

    return lax.map(of, (values, k, counted), batch_size=TOGETHER)


@jax.jit
def _agreement(
    values: Float[Array, "s t p"], rank: Int[Array, ""], place: Int[Array, " s"], judged: Bool[Array, "s p"]
) -> Float[Array, "s t"]:
    def of(given: tuple[Array, Array, Array]) -> Array:
        distances, own, patches = given
        usual = jnp.maximum(kth_smallest(distances, rank, 0, jnp.bool_(True))[0], 1e-12)
        usual = jnp.where(jnp.isfinite(usual), usual, 1e-12)
        return kth_smallest(distances / usual, own, 1, patches[None])[:, 0]

    return lax.map(of, (values, place, judged), batch_size=TOGETHER)


@jax.jit
def _images(values: Float[Array, "s t p"], chosen: Int[Array, " b"]) -> Float[Array, "b t p"]:
    return values[chosen]


@jax.jit
def _patches(values: Float[Array, "s t p"], places: Int[Array, "2 e"]) -> Float[Array, "e t"]:
    return values[places[0], :, places[1]]


@jax.jit
def _reaching(
    values: Float[Array, "s t p"], windows: Int[Array, " w"], least: Float[Array, "w t"]
) -> Bool[Array, "s w p"]:
    def of(distances: Float[Array, "t p"]) -> Bool[Array, "w p"]:
        ordered = jnp.sort(jnp.clip(distances, SMALLEST_DISTANCE, FARTHEST), axis=0)
        rank = jnp.arange(1, len(ordered))[:, None]
        total = jnp.cumsum(jnp.diff(jnp.log(ordered), axis=0) * rank, axis=0)
        before = jnp.pad(total, ((1, 0), (0, 0)))

        def in_window(given: tuple[Array, Array]) -> Bool[Array, " p"]:
            window, limits = given
            middle = window // 2
            count = middle - jnp.arange(len(before))
            lower = (before[middle] - before) / jnp.maximum(count, 1)[:, None]
            upper = jnp.maximum((before[window - 1] - before[middle]) / (window - 1 - middle), 1e-12)
            return (lower >= limits[:, None] * upper).any(axis=0)

        return lax.map(in_window, (windows, least))

    return lax.map(of, values, batch_size=TOGETHER)
