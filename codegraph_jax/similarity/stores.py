"""Stores of finished tables of distances."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.features.stores import FeatureStore


class ResumeStore(FeatureStore, Protocol):
    """Features and distances that are kept so that an interrupted run can be resumed.

    A table is found by the number of its layer and the identity of the comparison (`comparison_identity`).
    """

    def find_table(self, layer: int, identity: str, allocate: Allocate) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer, in an array that `allocate` makes; None if they are missing or incomplete."""

    def save_table(
        self, layer: int, identity: str, table: Iterable[Float[np.ndarray, "n m p"]], shape: tuple[int, ...]
    ) -> None:
        """Stores the distances of a layer, one degree after the other; `shape` is that of the table [r, n, m, p]."""


def comparison_identity(keys: Sequence[bytes], references: Int[np.ndarray, " m"], radius: int) -> str:
    """A digest of the images, given by their keys (`data.batches.image_key`), and of what they are compared with."""
    compared = np.array([radius, *references], np.int64)
    return blake2b(b"".join([*keys, compared.tobytes()]), digest_size=16).hexdigest()


@dataclass(frozen=True)
class StoredLayers:
    """The stored tables of one comparison."""

    store: ResumeStore
    identity: str
    allocate: Allocate

    def find(self, layer: int) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer; None if they are not stored."""
        return self.store.find_table(layer, self.identity, self.allocate)

    def save(self, layer: int, table: Iterable[Float[np.ndarray, "n m p"]], shape: tuple[int, ...]) -> None:
        """Stores the distances of a layer, see `ResumeStore.save_table`."""
        self.store.save_table(layer, self.identity, table, shape)
