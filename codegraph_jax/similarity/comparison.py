"""The result of comparing all images: features and read-only tables of distances."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.data.samples import Sample
from codegraph_jax.features.features import Features
from codegraph_jax.features.stores import FeatureStore
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.removal import ReferenceMask
from codegraph_jax.similarity.tiles import TileOptions


class LayerTable(Protocol):
    """Distances of one layer, one degree after the other, each [n, m, p] on the host."""

    @property
    def nbytes(self) -> int:
        """Size of all degrees in bytes."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Float[np.ndarray, "n m p"]]: ...


class TableStore(Protocol):
    """A store for the distances of layers.

    A table is identified by the number of the layer, the keys of all images (`data.batches.image_key`), the references
    and the radius.
    """

    def find_table(
        self, layer: int, keys: Sequence[bytes], references: Int[np.ndarray, " m"], radius: int, allocate: Allocate
    ) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer, in an array that `allocate` makes; None if they are missing or incomplete."""

    def keep_table(
        self, layer: int, keys: Sequence[bytes], references: Int[np.ndarray, " m"], radius: int, table: LayerTable
    ) -> None:
        """Stores the distances of a layer."""


class ResumeStore(FeatureStore, TableStore, Protocol):
    """Features and distances that are kept so that an interrupted run can be resumed."""


@dataclass(frozen=True)
class StoredLayers:
    """A `TableStore` for the layers of one set of images."""

    store: TableStore
    keys: Sequence[bytes]
    references: Int[np.ndarray, " m"]
    radius: int
    allocate: Allocate

    def find(self, layer: int) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of a layer; None if they are not stored."""
        return self.store.find_table(layer, self.keys, self.references, self.radius, self.allocate)

    def keep(self, layer: int, table: LayerTable) -> None:
        """Stores the distances of a layer."""
        self.store.keep_table(layer, self.keys, self.references, self.radius, table)


class DeviceMean(NamedTuple):
    """Mean distances over layers and degrees, of some images on a device.

    Attributes:
        values: the distances; infinite in padded rows and columns [s, t, p].
        images: number of images, at most s.
        references: number of references, at most t.
    """

    values: Float[Array, "s t p"]
    images: int
    references: int


class Tables(Protocol):
    """Distances of the patches of n images to m references in every layer, on the host or on devices."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""

    def __len__(self) -> int:
        """Number of layers."""

    def means(self) -> Sequence[DeviceMean | Float[np.ndarray, "n m p"]]:
        """Means over layers and degrees, in consecutive blocks of images."""

    def scores(
        self, k: int, columns: Int[np.ndarray, " c"], excluded: Bool[np.ndarray, "n m"] | None = None
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
        """Mutual scores without some references or patches of references, see `HostTables.scores_without`."""

    def host(self) -> HostTables:
        """The tables in the memory of the host, copied if they are on a device."""


@dataclass(frozen=True)
class Comparison:
    """Distances of every patch of every image to every reference image; read-only, so that scoring can be repeated.

    Attributes:
        features: of the n images.
        tables: distances of each layer, on the host or on devices; infinite to the image itself and to references
            without a valid patch within the radius; `valid.INVALID` for invalid patches.
        references: indices of the m reference images, in ascending order.
        options: degrees, grid and precision of the distances.
        seconds: wall time of each stage so far.
        added: number of added images, the last ones; they are neither references nor members of groups.
        listed: number of sources that belong to the set; it separates copies of an image in the set from added ones.
        excluded: references that an image is not compared with, besides itself; None: there are none.
        products: product that each image shows (`consistency.mixed_products`); None: not determined.
        roi: inspected region, stretched over each photo; None: everything, or different for some photos.
        samples: the sources with their labels, of the set and added ones; empty: unknown.
    """

    features: Features
    tables: Tables
    references: Int[np.ndarray, " m"]
    options: TileOptions
    seconds: Mapping[str, float] = field(default_factory=dict)
    added: int = 0
    listed: int = 0
    excluded: Bool[np.ndarray, "n m"] | None = None
    products: Int[np.ndarray, " n"] | None = None
    roi: Bool[np.ndarray, "a b"] | None = None
    samples: Sequence[Sample] = ()

    def __repr__(self) -> str:
        return f"Comparison({len(self.features.kept)} images with {len(self.references)} references)"

    @property
    def set_size(self) -> int:
        """Number of images of the set, without the added ones after them."""
        return len(self.features.kept) - self.added

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""
        return self.tables.shape

    def of_images(self, images: Int[np.ndarray, " k"]) -> "Comparison":
        """The comparison of some images of the set with those of them that are references, with tables on the host.

        Its scores are those of a comparison of these images alone, except if only some images are references. The
        indices are in ascending order, and the run has a single process.
        """
        host, features = self.tables.host(), self.features
        columns = np.flatnonzero(np.isin(self.references, images))
        references = np.searchsorted(images, self.references[columns])
        place = {int(i): k for k, i in enumerate(images)}
        features = replace(
            features,
            layers=[np.asarray(layer[images]) for layer in features.layers],
            counts=(len(images),),
            image_features=features.image_features[images],
            keys=[features.keys[i] for i in images],
            kept=features.kept[images],
            placement=features.placement.of(images),
            copies=tuple((source, place[i]) for source, i in features.copies if i in place),
        )
        tables = [np.ascontiguousarray(table[:, images][:, :, columns]) for table in host]
        return replace(
            self,
            features=features,
            tables=HostTables(tables, features.layers, features.counts, references, host.options),
            references=references,
            added=0,
            excluded=None if self.excluded is None else self.excluded[np.ix_(images, columns)],
            products=None if self.products is None else self.products[images],
        )

    def of_degree(self, place: int) -> "Comparison":
        """The comparison with only one of its degrees and with tables on the host."""
        tables = self.tables.host().of_degree(place)
        return replace(self, tables=tables, options=tables.options)
