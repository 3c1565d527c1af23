"""Compares all images of a set; the result has read-only tables of distances, on devices or on the host."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.config import Config
from codegraph_jax.core.progress import Progress, UndoableProgress, bar
from codegraph_jax.data.roi import shared_area
from codegraph_jax.data.samples import Sample
from codegraph_jax.distributed.chunks import is_out_of_memory
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.features import Features
from codegraph_jax.features.set_plan import DevicePlan, SetPlan
from codegraph_jax.similarity.device_tables import DeviceTables, distances_on_devices
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.kernels import distance_options
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.plan import HOST_KEEPS_DISTANCES
from codegraph_jax.similarity.references import ReferenceSubset, choose_references, pair_count
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.stores import ResumeStore, StoredLayers, comparison_identity
from codegraph_jax.similarity.table_layout import Table, TableLayout
from codegraph_jax.similarity.valid import mark_invalid

logger = logging.getLogger(__name__)

Tables = HostTables | DeviceTables
"""Distances of the patches of n images to m references in every layer, on the host or on devices."""


@dataclass(frozen=True)
class Comparison:
    """Distances of every patch of every image to every reference image; read-only, so that scoring can be repeated.

    Attributes:
        features: of the n images.
        tables: distances of each layer, on the host or on devices; infinite to the image itself and to references
            without a valid patch within the radius; `valid.INVALID` for invalid patches.
        seconds: wall time of each stage so far.
        added_count: number of added images, the last ones; they are neither references nor members of groups.
        source_count: number of sources of the set, with copies and unreadable ones; further sources are added images.
        product_ids: product that each image shows (`consistency.mixed_products`); None: not determined.
        roi: inspected area, stretched over each photo; None: everything, or different for some photos.
        samples: the sources with their labels, of the set and added ones; empty: unknown.
    """

    features: Features
    tables: Tables
    seconds: Mapping[str, float] = field(default_factory=dict)
    added_count: int = 0
    source_count: int = 0
    product_ids: Int[np.ndarray, " n"] | None = None
    roi: Bool[np.ndarray, "a b"] | None = None
    samples: Sequence[Sample] = ()

    def __repr__(self) -> str:
        return f"Comparison({len(self.features.kept)} images with {len(self.references)} references)"

    @property
    def references(self) -> Int[np.ndarray, " m"]:
        """Indices of the m reference images, in ascending order."""
        return self.tables.references

    @property
    def options(self) -> DistanceOptions:
        """Degrees, grid and precision of the distances."""
        return self.tables.options

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
        return replace(self, tables=self.tables.host().of_degree(degree_index))

    def subset(self, fraction: float, limit: int | None = None) -> ReferenceSubset:
        """At most `limit` of the references, chosen by content, or all; a score averages a fraction of them."""
        return ReferenceSubset.of([self.features.keys[i] for i in self.references], fraction, limit)


def compare_images(
    features: Features,
    plan: SetPlan,
    config: Config,
    mesh: DeviceMesh,
    resume_store: ResumeStore | None,
    progress: bool,
) -> Comparison:
    """Compares all images, at least two of them in the set, with all references.

    Tables are read from and written to the store, and `progress` shows a bar on standard error.
    """
    set_size = features.set_size(len(plan.images))
    placement, masked = features.placement, not features.placement.everything_inspected
    degrees, grid = config.features.degrees, plan.frame.grid
    options = distance_options(config.similarity, config.precision, degrees, grid, masked)
    references = choose_references(features.keys[:set_size], config.similarity.reference_count)
    shape = len(degrees), len(features.kept), len(references), grid[0] * grid[1]
    layer_pairs = pair_count(len(features.kept), len(references))
    allocate, images_per_process = plan.memory.allocate_tables, features.images_per_process
    identity = comparison_identity(features.keys, references, options.radius)
    store = StoredLayers(resume_store, identity, allocate, shape)

    def on_devices(device_plan: DevicePlan, advance: Progress) -> DeviceTables:
        layout = TableLayout.of(mesh, len(features.kept), references, device_plan.padded_shape)

        def compute(layer: Any) -> Table:
            return distances_on_devices(layer, options, layout, placement.inspected, advance)

        tables = store.tables(
            features.layers, compute, partial(advance, layer_pairs), layout.split_table, layout.degrees
        )
        return DeviceTables(tables, features.layers, options, layout)

    def on_host(advance: Progress) -> HostTables:
        def compute(layer: Any) -> np.ndarray:
            table = pairwise_distances(layer, options, references, advance, allocate, mesh, images_per_process)
            mark_invalid(table, placement.inspected)
            return table

        tables = store.tables(features.layers, compute, partial(advance, layer_pairs))
        return HostTables(tables, features.layers, images_per_process, references, options)

    def compare(advance: Progress) -> Tables:
        """Tables on devices, or on the host if there is no plan or a device runs out of memory."""
        if plan.device_plan:
            counted = UndoableProgress(advance)
            try:
                return on_devices(plan.device_plan, counted)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            counted.undo()
            logger.warning(HOST_KEEPS_DISTANCES)
            plan.memory.check(config.resources.check)
        return on_host(advance)

    with bar(layer_pairs * len(features.layers), "distances", "pair", progress) as advance:
        tables = compare(advance)
    roi, added = shared_area(plan.areas, placement), len(features.kept) - set_size
    return Comparison(features, tables, added_count=added, source_count=len(plan.images), roi=roi)
