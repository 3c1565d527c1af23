"""Distances of a block of images on a device; only statistics of them are copied to the host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import padded_size, zero_padded
from codegraph_jax.core.transfers import to_device, to_host
from codegraph_jax.scoring.host_block import MAX_DISTANCE, MIN_DISTANCE, Columns
from codegraph_jax.similarity.order_statistics import kth_smallest, mean_of_smallest
from codegraph_jax.similarity.programs import IMAGES_AT_ONCE

CALL_SIZES = (1024, 16384, 131072)
"""Padded numbers of patches whose distances are copied at once; few sizes need few compiled programs."""

WINDOWS = 4
"""Minimum number of windows; padding windows have limits that no patch reaches."""


@dataclass(frozen=True)
class DeviceBlock:
    """A `HostBlock` on a device, with the same methods; programs compute statistics of all s images.

    `values` are infinite in padding rows and columns, beyond the m references.
    """

    values: Float[Array, "s t p"]
    reference_count: int
    rows: Int[np.ndarray, " b"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(b, m, p)."""
        return len(self.rows), self.reference_count, self.values.shape[2]

    def select(self, images: Int[np.ndarray, " c"]) -> "DeviceBlock":
        """The block with some of its images."""
        return replace(self, rows=self.rows[images])

    def exclude(self, pairs: Bool[np.ndarray, "b m"]) -> "DeviceBlock":
        """See `HostBlock.exclude`."""
        masked = np.pad(pairs, ((0, 0), (0, self.values.shape[1] - self.reference_count)))
        return replace(self, values=_exclude(self.values, self._on_device(self._padded(masked))))

    def usable(self, columns: Columns) -> Bool[np.ndarray, "b c"]:
        """Whether each of these references has a finite distance to any patch."""
        return self._own_rows(_usable(self.values))[:, : self.reference_count][:, columns]

    def valid(self) -> Bool[np.ndarray, "b p"]:
        """Which patches have distances."""
        return self._own_rows(_valid(self.values))

    def mean_of_smallest(self, k: int, columns: Columns) -> Float[np.ndarray, "b p"]:
        """Mean of the k smallest finite distances to some references; infinite where none is finite."""
        return self._own_rows(_mean_of_smallest(self.values, self._on_device(np.int32(k)), self._mask(columns)))

    def kth_reference(self, ranks: Int[np.ndarray, "b w"], columns: Columns) -> Float[np.ndarray, "b w p"]:
        """Distances of each patch to some references, at the given ranks (1: smallest); infinite beyond the last."""
        return self._at_ranks(_kth_reference, ranks, self._mask(columns))

    def kth_patch(
        self, ranks: Int[np.ndarray, "b w"], patches: Bool[np.ndarray, "b p"], unit: Float[np.ndarray, "b p"] | None
    ) -> Float[np.ndarray, "b w m"]:
        """Distances of the chosen patches to each reference, at the given ranks (1: smallest).

        With `unit` the distances of each patch are first divided by its value.
        """
        scale = np.ones(patches.shape, np.float32) if unit is None else unit
        given = [self._on_device(self._padded(x)) for x in (patches, scale)]
        return self._at_ranks(_kth_patch, ranks, *given)[..., : self.reference_count]

    def all_distances(self) -> Sequence[Float[np.ndarray, "m p"]]:
        """All distances of each image."""
        if not (count := len(self.rows)):
            return []
        rows = zero_padded(self.rows.astype(np.int32), padded_size(count))
        return list(to_host(_images(self.values, self._on_device(rows)))[:count, : self.reference_count])

    def patch_distances(self, patch: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b m"]:
        """The distances of one patch of each image."""
        parts = [np.zeros((0, self.reference_count), np.float32)]
        for start in range(0, len(patch), CALL_SIZES[-1]):
            indices = np.stack([self.rows, patch])[:, start : start + CALL_SIZES[-1]].astype(np.int32)
            count = indices.shape[1]
            length = next(length for length in CALL_SIZES if length >= count)
            padded = self._on_device(np.pad(indices, ((0, 0), (0, length - count))))
            parts.append(to_host(_patch_distances(self.values, padded))[:count, : self.reference_count])
        return np.concatenate(parts)

    def distances_by_image(self, patches: Bool[np.ndarray, "b p"]) -> list[Callable[[], Float[np.ndarray, "e m"]]]:
        """For each image a function that returns the distances of its chosen patches; threads may call it."""
        image, patch = np.nonzero(patches)
        rows, ends = self.select(image).patch_distances(patch), np.searchsorted(image, np.arange(len(patches) + 1))
        return [partial(rows.__getitem__, slice(*own)) for own in pairwise(ends)]

    def candidates(self, windows: list[int], limits: Sequence[Float[np.ndarray, " k"]]) -> Bool[np.ndarray, "b w p"]:
        """Patches whose ratio of spacings may reach a limit for any k, in each window."""
        # small sets have fewer windows; padding lets them use the same compiled program
        count = max(len(windows), WINDOWS)
        sizes, padded_limits = np.full(count, 2, np.int32), np.full((count, self.values.shape[1]), np.inf, np.float32)
        sizes[: len(windows)] = windows
        for row, values in zip(padded_limits, limits):
            row[: len(values)] = values
        candidates = _candidates(self.values, self._on_device(sizes), self._on_device(padded_limits))
        return self._own_rows(candidates)[:, : len(windows)]

    def _at_ranks(self, program: Callable[..., Array], ranks: Int[np.ndarray, "b w"], *given: Array) -> np.ndarray:
        """Results of a program for each column of the ranks [b, w, ...]."""
        columns = [self._on_device(self._padded(column)) for column in ranks.T.astype(np.int32)]
        return np.stack([self._own_rows(x) for x in [program(self.values, k, *given) for k in columns]], axis=1)

    def _own_rows(self, values: Array) -> np.ndarray:
        """The rows of the b images, on the host."""
        return to_host(values)[self.rows]

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Rows for all s images, zero for images outside of `rows`."""
        whole = np.zeros((len(self.values), *values.shape[1:]), values.dtype)
        whole[self.rows] = values
        return whole

    def _mask(self, columns: Columns) -> Bool[Array, " t"]:
        mask = np.zeros(self.values.shape[1], bool)
        mask[: self.reference_count][columns] = True
        return self._on_device(mask)

    def _on_device(self, values: Any) -> Array:
        (device,) = self.values.devices()
        return to_device(values, device)


@jax.jit
def _exclude(values: Float[Array, "s t p"], masked: Bool[Array, "s t"]) -> Float[Array, "s t p"]:
    return jnp.where(masked[..., None], jnp.inf, values)


@jax.jit
def _usable(values: Float[Array, "s t p"]) -> Bool[Array, "s t"]:
    return jnp.isfinite(values).any(axis=2)


@jax.jit
def _valid(values: Float[Array, "s t p"]) -> Bool[Array, "s p"]:
    return values.min(axis=1) >= 0


@jax.jit
def _mean_of_smallest(
    values: Float[Array, "s t p"], k: Int[Array, ""], columns: Bool[Array, " t"]
) -> Float[Array, "s p"]:
    return _by_image(lambda x: mean_of_smallest(x, k, columns[:, None]), values)


@jax.jit
def _kth_reference(
    values: Float[Array, "s t p"], k: Int[Array, " s"], columns: Bool[Array, " t"]
) -> Float[Array, "s p"]:
    return _by_image(lambda x, own: kth_smallest(x, own, 0, columns[:, None])[0], values, k)


@jax.jit
def _kth_patch(
    values: Float[Array, "s t p"], k: Int[Array, " s"], patches: Bool[Array, "s p"], unit: Float[Array, "s p"]
) -> Float[Array, "s t"]:
    return _by_image(
        lambda x, own, some, one: kth_smallest(x / one, own, 1, some[None])[:, 0], values, k, patches, unit
    )


@jax.jit
def _images(values: Float[Array, "s t p"], rows: Int[Array, " b"]) -> Float[Array, "b t p"]:
    return values[rows]


@jax.jit
def _patch_distances(values: Float[Array, "s t p"], indices: Int[Array, "2 e"]) -> Float[Array, "e t"]:
    return values[indices[0], :, indices[1]]


@jax.jit
def _candidates(
    values: Float[Array, "s t p"], windows: Int[Array, " w"], limits: Float[Array, "w t"]
) -> Bool[Array, "s w p"]:
    def candidates(distances: Float[Array, "t p"]) -> Bool[Array, "w p"]:
        ordered = jnp.sort(jnp.clip(distances, MIN_DISTANCE, MAX_DISTANCE), axis=0)
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

        return lax.map(in_window, (windows, limits))

    return _by_image(candidates, values)


def _by_image(function: Callable[..., Array], *given: Array) -> Array:
    """Applies a function image by image, a few images at once: all at once would need the memory of a second table."""
    return lax.map(lambda own: function(*own), given, batch_size=IMAGES_AT_ONCE)
