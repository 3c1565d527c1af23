"""Stores of finished tables of distances, and their means on a device."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Array, Float, Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.features.stores import FeatureStore


class ResumeStore(FeatureStore, Protocol):
    """Features and distances that are kept so that an interrupted run can be resumed.

    A table is identified by the number of the layer, the keys of all images (`data.batches.image_key`), the references
    and the radius.
    """

    def find_table(
        self, layer: int, keys: Sequence[bytes], references: Int[np.ndarray, " m"], radius: int, allocate: Allocate
    ) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer, in an array that `allocate` makes; None if they are missing or incomplete."""

    def keep_table(
        self,
        layer: int,
        keys: Sequence[bytes],
        references: Int[np.ndarray, " m"],
        radius: int,
        table: Iterable[Float[np.ndarray, "n m p"]],
        shape: tuple[int, ...],
    ) -> None:
        """Stores the distances of a layer, one degree after the other; `shape` is that of the table [r, n, m, p]."""


@dataclass(frozen=True)
class StoredLayers:
    """The stored tables of one set of images."""

    store: ResumeStore
    keys: Sequence[bytes]
    references: Int[np.ndarray, " m"]
    radius: int
    allocate: Allocate

    def find(self, layer: int) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer; None if they are not stored."""
        return self.store.find_table(layer, self.keys, self.references, self.radius, self.allocate)

    def keep(self, layer: int, table: Iterable[Float[np.ndarray, "n m p"]], shape: tuple[int, ...]) -> None:
        """Stores the distances of a layer, see `ResumeStore.keep_table`."""
        self.store.keep_table(layer, self.keys, self.references, self.radius, table, shape)


class DeviceMean(NamedTuple):
    """Mean distances over layers and degrees, of some images on a device; infinite in padded rows and columns."""

    values: Float[Array, "s t p"]
    images: int
    references: int
