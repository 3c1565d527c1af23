"""Stores of finished tables of distances."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.core.mapped_arrays import Allocate
from codegraph_jax.features.stores import FeatureStore


class ResumeStore(FeatureStore, Protocol):
    """Features and distances that are kept so that an interrupted run can be resumed.

    A table is found by the number of its layer and the identity of the comparison (`comparison_identity`).
    """

    def load_table(self, layer: int, identity: str, allocate: Allocate) -> Float[np.ndarray, "r n m p"] | None:
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
    """The stored tables [r, n, m, p] of one comparison; without a store there are none."""

    store: ResumeStore | None
    identity: str
    allocate: Allocate
    shape: tuple[int, int, int, int]

    def tables(
        self,
        layers: Sequence[Any],
        compute: Callable[[Any], Any],
        on_load: Callable[[], object],
        place: Callable[[np.ndarray], Any] = lambda table: table,
        by_degree: Callable[[Any], Iterable[np.ndarray]] = lambda table: table,
    ) -> list[Any]:
        """The table of each layer: a stored one in its place, or a computed one, which is stored degree by degree."""
        tables = []
        for number, layer in enumerate(layers):
            stored = self.store.load_table(number, self.identity, self.allocate) if self.store else None
            if stored is not None:
                tables.append(place(stored))
                on_load()
                continue
            tables.append(compute(layer))
            if self.store:
                self.store.save_table(number, self.identity, by_degree(tables[-1]), self.shape)
        return tables
