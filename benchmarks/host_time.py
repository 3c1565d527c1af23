"""Time of the host in a detection, with distances on the device and on the host.

The tokens are synthetic and show a recurring defect, so that every stage has work. On CPUs, device and host are the
same cores. `host_s`, the time of a stage without the waits of the host for the device, hardly depends on the device.
"""

from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks.copy_counts import CopyCounts, counted_copies
from benchmarks.records import Record, record
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.config import RecurringConfig, SimilarityConfig
from codegraph_jax.consistency.filtered_scores import filtered_scores
from codegraph_jax.consistency.stages import find_recurring_patterns
from codegraph_jax.core.arrays import padded_size
from codegraph_jax.core.timing import Timing
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import everything
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.features.features import Features
from codegraph_jax.features.on_device import DeviceFeatureBuffer
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.device_tables import DeviceTables, distances_on_devices
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.kernels import distance_options
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.table_layout import TableLayout

FRACTION = 0.3
GROUP_SHARE = 0.1
"""Share of the images that show the recurring defect."""
PATCH_SIZE = 14
DISTANCES_ON = ("device", "host")
"""Where the distances are stored."""


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Measures the stages for each number of images, on the device and on the host; the first call compiles."""
    records = []
    for n in sizes.host_images:
        for distances_on in DISTANCES_ON:
            first, second = (_stages(config, sizes, n, distances_on) for _ in range(2))
            for stage, (wall, cpu, counts) in second.items():
                copies = counts.to_device + counts.to_host
                more: dict[str, Any] = {}
                if distances_on == "device":
                    mib = (counts.bytes_to_device + counts.bytes_to_host) / 2**20
                    more = {"copies": str(copies), "copied_mib": mib}
                    if len(_devices(config)) == 1:
                        # with several devices, threads wait at the same time
                        more["host_s"] = wall - counts.waited
                timing = Timing(first[stage][0], wall, cpu)
                records.append(record("host_time", f"N = {n}, {stage}, {distances_on}", timing, n, "images", **more))
    return records


def _devices(config: BenchmarkConfig) -> tuple[jax.Device, ...]:
    return tuple(jax.devices()[: config.parallel.devices or None])


def _stages(
    config: BenchmarkConfig, sizes: Sizes, n: int, distances_on: str
) -> dict[str, tuple[float, float, CopyCounts]]:
    """(wall time, CPU time, copies) of each stage."""
    options = distance_options(SimilarityConfig(), "float32", sizes.host_degrees, (sizes.host_grid, sizes.host_grid))
    mesh, references = DeviceMesh(_devices(config)), np.arange(n)
    features = _features(sizes, n, on_device=distances_on == "device" and len(mesh) == 1)
    found: dict[str, tuple[float, float, CopyCounts]] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        begin, begin_cpu = perf_counter(), process_time()
        with counted_copies() as counts:
            result = work()
        found[stage] = perf_counter() - begin, process_time() - begin_cpu, counts
        return result

    def distances() -> Any:
        if distances_on == "device":
            layout = TableLayout.of(mesh, n, references)
            placed = [
                distances_on_devices(layer, options, layout, features.placement.inspected) for layer in features.layers
            ]
            return DeviceTables(placed, features.layers, options, layout)
        tables = [pairwise_distances(layer, options, references) for layer in features.layers]
        return HostTables(tables, features.layers, features.images_per_process, references, options)

    comparison = Comparison(features, timed("distances", distances), source_count=n)
    subset = comparison.subset(FRACTION)
    timed("scores", lambda: comparison.tables.scores(subset, Exclusions.none(comparison.shape)))
    # remove all recurring patterns, so that filtering has work
    settings = RecurringConfig(defects="all")
    _, exclusions = timed("recurring", lambda: find_recurring_patterns(comparison, subset.k, settings))
    timed("filtered scores", lambda: filtered_scores(comparison, subset, exclusions))
    return found


def _features(sizes: Sizes, n: int, on_device: bool) -> Features:
    """Tokens of n similar images, some of which share four patches."""
    grid, channels = sizes.host_grid, sizes.host_channels
    patches = np.array([0, 1, grid, grid + 1]) + (grid // 2) * (grid + 1)
    layers: list[Any] = []
    for number in range(sizes.host_layers):
        rng = np.random.default_rng(number)
        tokens = rng.normal(size=(1, grid * grid, channels)) + 0.4 * rng.normal(size=(n, grid * grid, channels))
        group = max(3, int(GROUP_SHARE * n))
        shared = tokens[:, patches].mean(axis=0) + 1.6 * rng.normal(size=(len(patches), channels))
        tokens[:group, patches] = shared + rng.normal(size=(group, len(patches), channels))
        layers.append(_placed(normalise(jnp.asarray(tokens, jnp.float32)), on_device))
    placement = Placement.whole(Frame("squeeze", (grid, grid), PATCH_SIZE), np.full((n, 2), grid * PATCH_SIZE))
    keys = [number.to_bytes(4, "big") for number in range(n)]
    return Features(
        layers=layers, images_per_process=(n,), image_features=np.zeros((n, 1), np.float32), keys=keys,
        kept=np.arange(n), placement=placement, areas=[everything] * n, unreadable=[],
    )  # fmt: skip


def _placed(tokens: Float[jax.Array, "n p c"], on_device: bool) -> Any:
    if not on_device:
        return np.asarray(tokens)
    layers = DeviceFeatureBuffer(padded_size(len(tokens)), jax.devices()[0])
    layers.add(np.arange(len(tokens)), [tokens])
    return layers.keep(np.arange(len(tokens)))[0]
