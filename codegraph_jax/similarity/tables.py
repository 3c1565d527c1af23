"""The distances of a run, layer by layer: on the devices that compute them, or on the host."""

import logging
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.config import Config
from codegraph_jax.core.arrays import Allocate
from codegraph_jax.core.progress import Progress, bar
from codegraph_jax.data.roi import shared_roi
from codegraph_jax.distributed.chunks import is_out_of_memory
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.extraction import Features
from codegraph_jax.similarity.comparison import Comparison, ResumeStore, StoredLayers
from codegraph_jax.similarity.judged import mark_not_judged
from codegraph_jax.similarity.pairwise import choose_references, schedule_length, tile_options
from codegraph_jax.similarity.residency import DevicePlan
from codegraph_jax.similarity.resident import ResidentTables
from codegraph_jax.similarity.set_plan import SetPlan
from codegraph_jax.similarity.sharding import all_distances
from codegraph_jax.similarity.tiles import TileOptions

logger = logging.getLogger(__name__)


def compare_images(
    features: Features,
    plan: SetPlan,
    config: Config,
    mesh: DeviceMesh,
    neighbours: Callable[[int], int],
    earlier: ResumeStore | None = None,
    progress: bool = False,
) -> Comparison:
    """The distances of all patches to all references.

    Args:
        features: of all images, two of the set at least.
        plan: of the set.
        config, mesh: of the run.
        neighbours: how many of so many references a score averages.
        earlier: what an earlier start has of the tables, and where this one keeps them.
        progress: show a bar on standard error.
    """
    own = int((features.kept < len(plan.images)).sum())
    masked = features.placement.judged is not None
    options = tile_options(config.similarity, config.features.degrees, plan.frame.grid, masked)
    references = choose_references(features.keys[:own], config.similarity.references)
    allocate = plan.memory.allocate_tables
    store = StoredLayers(earlier, features.keys, references, allocate) if earlier else None
    pairs = schedule_length(len(features.kept), len(references)) * len(features.layers)
    with bar(pairs, "distances", "pair", progress) as advance:
        tables: Sequence[Float[np.ndarray, "r n m p"]] | ResidentTables | None = None
        how = features, references, options, mesh, store, advance
        if plan.device:
            tables = _on_devices(*how, plan.device, neighbours(len(references)))
            if tables is None:
                plan.memory.check(config.storage.check)
        if tables is None:
            tables = _on_host(*how, allocate)
    roi, added = shared_roi(plan.inspected, features.placement), len(features.kept) - own
    return Comparison(features, tables, references, options, added=added, listed=len(plan.images), roi=roi)


def _on_devices(
    features: Features,
    references: Int[np.ndarray, " m"],
    options: TileOptions,
    mesh: DeviceMesh,
    store: StoredLayers | None,
    progress: Progress,
    plan: DevicePlan,
    k: int,
) -> ResidentTables | None:
    """The tables where they are computed; None where a device turns out to have too little memory."""
    how = mesh, k, features.placement.judged, plan.kept, progress, store, plan.size
    try:
        return ResidentTables(features.layers, references, options, *how)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
    logger.warning("a device has too little memory for the distances; the host keeps them")
    return None


def _on_host(
    features: Features,
    references: Int[np.ndarray, " m"],
    options: TileOptions,
    mesh: DeviceMesh,
    store: StoredLayers | None,
    progress: Progress,
    allocate: Allocate,
) -> list[Float[np.ndarray, "r n m p"]]:
    """The tables of all layers in the memory of the host, or in mapped files."""
    judged = features.placement.judged
    tables = []
    for number, layer in enumerate(features.layers):
        table = store.find(number) if store else None
        if table is not None:
            progress(schedule_length(len(features.kept), len(references)))
        else:
            how = mesh, features.counts, options, references
            table = all_distances(layer, *how, progress, allocate)
            if judged is not None:
                mark_not_judged(table, judged)
            if store:
                store.keep(number, table)
        tables.append(table)
    return tables
