"""What a comparison of all images gives: distances that later stages read and nobody changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.features.extraction import Features
from codegraph_jax.features.stores import FeatureStore
from codegraph_jax.similarity.resident import HostView, ResidentTables
from codegraph_jax.similarity.tiles import TileOptions


class TableStore(Protocol):
    """A place that may have the distances of a layer already, or keeps those that are computed.

    They are known by the number of the layer, the keys of all images (`data.batches.image_key`) and the references.
    """

    def find_table(
        self, layer: int, keys: Sequence[bytes], references: Int[np.ndarray, " m"], allocate: Allocate
    ) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer, in an array that `allocate` makes; None where they are not there as a whole."""

    def keep_table(
        self,
        layer: int,
        keys: Sequence[bytes],
        references: Int[np.ndarray, " m"],
        table: Float[np.ndarray, "r n m p"] | HostView,
    ) -> None:
        """Takes the distances of a layer."""


class ResumeStore(FeatureStore, TableStore, Protocol):
    """What an earlier start of the same run has computed, and where this one keeps what it computes."""


@dataclass(frozen=True)
class StoredLayers:
    """A `TableStore` as it is asked for the layers of one set, see there."""

    store: TableStore
    keys: Sequence[bytes]
    references: Int[np.ndarray, " m"]
    allocate: Allocate

    def find(self, layer: int) -> Float[np.ndarray, "r n m p"] | None:
        return self.store.find_table(layer, self.keys, self.references, self.allocate)

    def keep(self, layer: int, table: Float[np.ndarray, "r n m p"] | HostView) -> None:
        self.store.keep_table(layer, self.keys, self.references, table)


@dataclass(frozen=True)
class Comparison:
    """How close every patch of every image is to every reference image.

    It owns its tables: judging reads them, as often as one likes, and changes nothing.

    Attributes:
        features: of the n images.
        tables: distances of each layer [r, n, m, p], or the place on a device where they are; infinite where a
            reference is the image itself, and where within the radius it has no patch that counts; of patches that are
            not judged `judged.NOT_JUDGED`.
        references: which images the m references are, in ascending order.
        options: degrees, grid and precision of the distances.
        seconds: wall time of the stages that led here.
        added: the last so many images are no references, and nothing is learnt from them.
        listed: how many of the sources were to be of the set; copies of an image are told by it from added ones.
        barred: references that must not serve an image, besides itself; None: there are none.
        roi: what of every photograph is inspected, stretched over each; None: everything, or not the same of all.
        products: which product each image shows (`consistency.mixed_products`); None: not looked at.
    """

    features: Features
    tables: Sequence[Float[np.ndarray, "r n m p"]] | ResidentTables
    references: Int[np.ndarray, " m"]
    options: TileOptions
    seconds: Mapping[str, float] = field(default_factory=dict)
    added: int = 0
    listed: int = 0
    barred: Bool[np.ndarray, "n m"] | None = None
    products: Int[np.ndarray, " n"] | None = None
    roi: Bool[np.ndarray, "a b"] | None = None

    def __repr__(self) -> str:
        return f"Comparison({len(self.features.kept)} images with {len(self.references)} references)"

    @property
    def own(self) -> int:
        """Images of the set, which come first."""
        return len(self.features.kept) - self.added

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""
        if isinstance(self.tables, ResidentTables):
            return self.tables.shape
        n, m, p = self.tables[0].shape[1:]
        return n, m, p

    def host_tables(self) -> Sequence[Float[np.ndarray, "r n m p"]]:
        """The tables in the memory of the host; copies where they are on a device."""
        return self.tables.host() if isinstance(self.tables, ResidentTables) else self.tables

    def on_host(self) -> "Comparison":
        """The comparison with its tables in the memory of the host."""
        return replace(self, tables=self.host_tables())

    def of_degree(self, place: int) -> "Comparison":
        """The comparison with one of its degrees alone; its tables are on the host."""
        options = self.options._replace(degrees=self.options.degrees[place : place + 1])
        return replace(self, tables=[table[place : place + 1] for table in self.host_tables()], options=options)

    def with_references(self, columns: Int[np.ndarray, " k"]) -> "Comparison":
        """The comparison with fewer references; a copy of a part of the tables."""
        barred = None if self.barred is None else self.barred[:, columns]
        tables = [table[:, :, columns] for table in self.host_tables()]
        return replace(self, tables=tables, references=self.references[columns], barred=barred)


def mean_distances(tables: Sequence[Float[np.ndarray, "r n m p"]]) -> Float[np.ndarray, "n m p"]:
    """Mean over layers and degrees, on which all decisions are made."""
    total = np.zeros(tables[0].shape[1:], np.float32)
    for table in tables:
        for degree in table:
            total += degree
    total /= sum(len(table) for table in tables)
    return total
