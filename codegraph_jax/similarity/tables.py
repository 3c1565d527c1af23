"""The distances of a run, layer by layer: on the devices that compute them, or on the host."""

import logging

import jax
import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.core.progress import Progress
from codegraph_jax.distributed.chunks import is_out_of_memory
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.extraction import Features
from codegraph_jax.features.memory import MemoryPlan
from codegraph_jax.similarity.comparison import StoredLayers
from codegraph_jax.similarity.judged import mark_not_judged
from codegraph_jax.similarity.pairwise import schedule_length
from codegraph_jax.similarity.residency import DevicePlan
from codegraph_jax.similarity.resident import ResidentTables
from codegraph_jax.similarity.sharding import all_distances
from codegraph_jax.similarity.tiles import TileOptions

logger = logging.getLogger(__name__)


def tables_of(
    features: Features,
    references: Int[np.ndarray, " m"],
    options: TileOptions,
    *,
    mesh: DeviceMesh,
    plan: MemoryPlan,
    on_device: DevicePlan | None,
    k: int,
    check: str,
    store: StoredLayers | None,
    progress: Progress,
) -> list[Float[np.ndarray, "r n m p"]] | ResidentTables:
    """Distances of every layer, of which an earlier start may have some.

    Args:
        features: of all images.
        references: indices of the images that serve as references, in ascending order.
        options: kernel, degrees, grid and precision.
        mesh: devices that compute.
        plan: of the run.
        on_device: what devices keep; None: the host keeps the distances.
        k: neighbours that a score averages.
        check: what happens where devices turn out to have no room and the host has none, see `StorageConfig.check`.
        store: what an earlier start has, and where this one keeps what it computes.
        progress: called as pairs are done.
    """
    judged = features.placement.judged
    if on_device:
        try:
            return ResidentTables(
                features.layers, references, options, mesh, k, judged, on_device.kept, progress, store, on_device.size
            )
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
        logger.warning("a device has too little memory for the distances; the host keeps them")
        plan.check(check)
    tables = []
    for number, layer in enumerate(features.layers):
        table = store.find(number) if store else None
        if table is not None:
            progress(schedule_length(len(features.kept), len(references)))
        else:
            how = mesh, features.counts, options, references
            table = all_distances(layer, *how, progress, plan.allocate_tables)
            if judged is not None:
                mark_not_judged(table, judged)
            if store:
                store.keep(number, table)
        tables.append(table)
    return tables
