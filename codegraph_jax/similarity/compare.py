"""Computes the distances of a set, and stores them on the devices that compute them or on the host."""

import logging
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Int

from codegraph_jax.config import Config
from codegraph_jax.core.arrays import Allocate
from codegraph_jax.core.progress import Progress, UndoableProgress, bar
from codegraph_jax.data.roi import shared_roi
from codegraph_jax.distributed.chunks import is_out_of_memory
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.features import Features
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.device_tables import DeviceTables
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.pairwise import choose_references, distance_options, schedule_length
from codegraph_jax.similarity.plan import DevicePlan, SetPlan
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.stores import ResumeStore, StoredLayers, comparison_identity
from codegraph_jax.similarity.tiles import DistanceOptions
from codegraph_jax.similarity.valid import mark_invalid

logger = logging.getLogger(__name__)


def compare_images(
    features: Features,
    plan: SetPlan,
    config: Config,
    mesh: DeviceMesh,
    neighbour_count: Callable[[int], int],
    resume_store: ResumeStore | None = None,
    progress: bool = False,
) -> Comparison:
    """Compares all images, at least two of them in the set, with all references.

    `neighbour_count` returns how many distances a score averages for a number of references. Tables are read from and
    written to the store, and `progress` shows a bar on standard error.
    """
    set_size = int((features.kept < len(plan.images)).sum())
    valid = features.placement.inspected
    degrees, grid = config.features.degrees, plan.frame.grid
    options = distance_options(config.similarity, config.precision, degrees, grid, masked=valid is not None)
    references = choose_references(features.keys[:set_size], config.similarity.reference_count)
    allocate = plan.memory.allocate_tables
    identity = comparison_identity(features.keys, references, options.radius)
    store = StoredLayers(resume_store, identity, allocate) if resume_store else None

    def on_devices(device: DevicePlan, advance: Progress) -> DeviceTables | None:
        """Tables on devices; None if a device runs out of memory."""
        counted = UndoableProgress(advance)
        try:
            return DeviceTables(
                features.layers, references, options, mesh, neighbour_count(len(references)), valid=valid,
                kept_layers=device.kept_layers, advance=counted, store=store, size=device.size,
            )  # fmt: skip
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
        counted.undo()
        logger.warning("a device has too little memory for the distances; the host keeps them")
        plan.memory.check(config.resources.check)
        return None

    pairs = schedule_length(len(features.kept), len(references)) * len(features.layers)
    with bar(pairs, "distances", "pair", progress) as advance:
        on_device = on_devices(plan.device, advance) if plan.device else None
        tables = on_device or _on_host(features, references, options, mesh, allocate, store, advance)
    roi, added = shared_roi(plan.inspected, features.placement), len(features.kept) - set_size
    return Comparison(features, tables, references, options, added_count=added, source_count=len(plan.images), roi=roi)


def _on_host(
    features: Features,
    references: Int[np.ndarray, " m"],
    options: DistanceOptions,
    mesh: DeviceMesh,
    allocate: Allocate,
    store: StoredLayers | None,
    advance: Progress,
) -> HostTables:
    """Tables on the host, read from the store or computed."""
    valid, tables = features.placement.inspected, []
    for number, layer in enumerate(features.layers):
        table = store.find(number) if store else None
        if table is not None:
            advance(schedule_length(len(features.kept), len(references)))
        else:
            table = pairwise_distances(layer, options, references, advance, allocate, mesh, features.counts)
            if valid is not None:
                mark_invalid(table, valid)
            if store:
                store.save(number, table, table.shape)
        tables.append(table)
    return HostTables(tables, features.layers, features.counts, references, options)
