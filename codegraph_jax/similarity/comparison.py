"""What a comparison of all images gives: distances that later stages read and nobody changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.features.features import Features
from codegraph_jax.features.stores import FeatureStore
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.removal import ReferenceMask
from codegraph_jax.similarity.tiles import TileOptions


class LayerTable(Protocol):
    """Distances of one layer as a store takes them: degree by degree, each [n, m, p] on the host."""

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Float[np.ndarray, "n m p"]]: ...


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
        table: LayerTable,
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

    def keep(self, layer: int, table: LayerTable) -> None:
        self.store.keep_table(layer, self.keys, self.references, table)


class DeviceMean(NamedTuple):
    """Mean distances over layers and degrees of some images on a device.

    Attributes:
        values: infinite in the rows and columns that fill it up [s, t, p].
        images, references: how many there are.
    """

    values: Float[Array, "s t p"]
    images: int
    references: int


class Tables(Protocol):
    """Distances of the patches of n images to m references, layer by layer, wherever they are."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""

    def __len__(self) -> int:
        """How many layers there are."""

    def means(self) -> Sequence[DeviceMean | Float[np.ndarray, "n m p"]]:
        """Mean over layers and degrees: of some images each, which follow one another."""

    def scores(
        self, k: int, columns: Int[np.ndarray, " c"], barred: Bool[np.ndarray, "n m"] | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores, see `HostTables.scores`."""

    def scores_without(
        self,
        k: int,
        columns: Int[np.ndarray, " c"],
        pairs: Bool[np.ndarray, "n m"],
        masks: Sequence[ReferenceMask],
        removed: Bool[np.ndarray, "n p"],
        scores: Sequence[Float[np.ndarray, "r n p"]],
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores where something must not serve, see `HostTables.scores_without`."""

    def host(self) -> HostTables:
        """The tables in the memory of the host; copies where they are on a device."""


@dataclass(frozen=True)
class Comparison:
    """How close every patch of every image is to every reference image.

    It owns its tables: judging reads them, as often as one likes, and changes nothing.

    Attributes:
        features: of the n images.
        tables: distances of each layer, on the host or on devices; infinite where a reference is the image itself, and
            where within the radius it has no patch that counts; of patches that are not judged `valid.INVALID`.
        references: which images the m references are, in ascending order.
        options: degrees, grid and precision of the distances.
        seconds: wall time of the stages that led here.
        added: the last so many images are no references and take no part in the search for groups.
        listed: how many of the sources were to be of the set; copies of an image are told by it from added ones.
        barred: references that must not serve an image, besides itself; None: there are none.
        roi: what of every photograph is inspected, stretched over each; None: everything, or not the same of all.
        products: which product each image shows (`consistency.mixed_products`); None: not looked at.
    """

    features: Features
    tables: Tables
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
        return self.tables.shape

    def of_degree(self, place: int) -> "Comparison":
        """The comparison with one of its degrees alone; its tables are on the host."""
        tables = self.tables.host().of_degree(place)
        return replace(self, tables=tables, options=tables.options)
