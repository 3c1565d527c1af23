"""The result of comparing all images: features and read-only tables of distances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.data.samples import Sample
from codegraph_jax.features.features import Features
from codegraph_jax.similarity.device_tables import DeviceTables
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.tiles import DistanceOptions

Tables = HostTables | DeviceTables
"""Distances of the patches of n images to m references in every layer, on the host or on devices."""


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
        added_count: number of added images, the last ones; they are neither references nor members of groups.
        source_count: number of sources of the set, with copies and unreadable ones; further sources are added images.
        products: product that each image shows (`consistency.mixed_products`); None: not determined.
        roi: inspected area, stretched over each photo; None: everything, or different for some photos.
        samples: the sources with their labels, of the set and added ones; empty: unknown.
    """

    features: Features
    tables: Tables
    references: Int[np.ndarray, " m"]
    options: DistanceOptions
    seconds: Mapping[str, float] = field(default_factory=dict)
    added_count: int = 0
    source_count: int = 0
    products: Int[np.ndarray, " n"] | None = None
    roi: Bool[np.ndarray, "a b"] | None = None
    samples: Sequence[Sample] = ()

    def __repr__(self) -> str:
        return f"Comparison({len(self.features.kept)} images with {len(self.references)} references)"

    @property
    def set_size(self) -> int:
        """Number of images of the set, without the added ones after them."""
        return len(self.features.kept) - self.added_count

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""
        return self.tables.shape

    def of_degree(self, degree_index: int) -> "Comparison":
        """The comparison with only one of its degrees and with tables on the host."""
        tables = self.tables.host().of_degree(degree_index)
        return replace(self, tables=tables, options=tables.options)
