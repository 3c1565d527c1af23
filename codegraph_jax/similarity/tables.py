"""The distances of a run, layer by layer: on the devices that compute them, or on the host."""

import logging
from collections.abc import Callable

import jax

from codegraph_jax.config import Config
from codegraph_jax.core.progress import Progress, bar
from codegraph_jax.data.roi import shared_roi
from codegraph_jax.distributed.chunks import is_out_of_memory
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.features import Features
from codegraph_jax.similarity.comparison import Comparison, ResumeStore, StoredLayers, Tables
from codegraph_jax.similarity.device_tables import DeviceTables
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.pairwise import choose_references, schedule_length, tile_options
from codegraph_jax.similarity.plan import DevicePlan, SetPlan
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.valid import mark_invalid

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
    masked = features.placement.inspected is not None
    options = tile_options(config.similarity, config.features.degrees, plan.frame.grid, masked)
    references = choose_references(features.keys[:own], config.similarity.references)
    allocate = plan.memory.allocate_tables
    store = StoredLayers(earlier, features.keys, references, allocate) if earlier else None
    judged, counts = features.placement.inspected, features.counts
    pairs = schedule_length(len(features.kept), len(references))

    def on_devices(device: DevicePlan, advance: Progress) -> Tables | None:
        """The tables where they are computed; None where a device turns out to have too little memory."""
        done = 0

        def counted(pairs: int) -> None:
            nonlocal done
            done += pairs
            advance(pairs)

        how = options, mesh, neighbours(len(references)), judged, device.kept, counted, store, device.size
        try:
            return DeviceTables(features.layers, references, *how)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
        advance(-done)
        logger.warning("a device has too little memory for the distances; the host keeps them")
        plan.memory.check(config.storage.check)
        return None

    def on_host(advance: Progress) -> HostTables:
        tables = []
        for number, layer in enumerate(features.layers):
            table = store.find(number) if store else None
            if table is not None:
                advance(pairs)
            else:
                table = pairwise_distances(layer, options, references, advance, allocate, mesh, counts)
                if judged is not None:
                    mark_invalid(table, judged)
                if store:
                    store.keep(number, table)
            tables.append(table)
        return HostTables(tables, features.layers, counts, references, options)

    with bar(pairs * len(features.layers), "distances", "pair", progress) as advance:
        tables: Tables | None = on_devices(plan.device, advance) if plan.device else None
        if tables is None:
            tables = on_host(advance)
    roi, added = shared_roi(plan.inspected, features.placement), len(features.kept) - own
    return Comparison(features, tables, references, options, added=added, listed=len(plan.images), roi=roi)
