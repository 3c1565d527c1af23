"""Plans the memory of a run before it computes: on the host, and on the devices if distances stay there.

A single device holds the features and the tables of all layers, one layer prepared for the kernel, two copies of its
table (without removed patches, and with masked references), and the mean table. Each of several devices holds the
tables of its own images and the shards of a layer that it compares at once; features stay on the host.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import jax

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.arrays import padded_size
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.roi import InspectedArea, everything
from codegraph_jax.data.samples import Sample
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.memory import MEAN_TABLES, MemoryPlan, plan_run
from codegraph_jax.features.set_plan import DevicePlan, SetPlan
from codegraph_jax.features.token_set import TokenSet
from codegraph_jax.similarity.kernels import derives_degrees
from codegraph_jax.similarity.ring import DEVICE_SHARE, shards_at_once
from codegraph_jax.similarity.time_estimate import compares_everything

logger = logging.getLogger(__name__)

HOST_KEEPS_DISTANCES = "a device has too little memory for the distances; the host keeps them"


def plan_set(
    config: Config,
    backbone: LoadedBackbone,
    mesh: DeviceMesh,
    images: Sequence[Sample] | TokenSet,
    frame: Frame,
    added: Sequence[Sample] = (),
    areas: Sequence[InspectedArea] = (),
    sets: int = 1,
    largest: int = 0,
) -> SetPlan:
    """Plans the comparison of a set; arguments as for `SetPlan` and `plan_device`. Without `areas`: everything."""
    count = len(images) + len(added)
    if config.similarity.radius == "auto" and compares_everything(config, backbone, count, frame.grid):
        config = replace(config, similarity=replace(config.similarity, radius="all"))
    memory = plan_run(config, backbone, count, frame)
    device_plan = plan_device(config, memory, mesh, count, len(backbone.blocks), sets, largest)
    return SetPlan(images, added, areas or [everything] * count, frame, memory, device_plan)


def plan_device(
    config: Config,
    memory: MemoryPlan,
    mesh: DeviceMesh,
    image_count: int,
    layer_count: int,
    sets: int = 1,
    largest: int = 0,
) -> DevicePlan | None:
    """The plan of distances on devices; None if the host stores and scores them, as with several `pmap` devices.

    `sets` sets of this size are on the devices at once. If memory allows, all are padded to the size of the
    largest set of the run and share their compiled programs.
    """
    devices, where = len(mesh), config.resources.distances_on
    on_cpu = mesh.devices[0].platform == "cpu"
    if where == "host" or jax.process_count() > 1 or (where == "auto" and on_cpu):
        return None
    if devices > 1 and mesh.backend == "pmap":
        return None
    # a device that does not report its memory is used only on request
    memory_bytes = device_bytes(mesh.devices) / sets
    available_bytes = DEVICE_SHARE * memory_bytes or (math.inf if where == "device" else 0.0)
    # the working memory of the plan is a prepared layer, and two mean tables, since added images need a copy
    mean_bytes = MEAN_TABLES * memory.degree_bytes
    prepared_bytes = memory.working_bytes - mean_bytes
    if not (derives_degrees(config.similarity, config.precision) or config.similarity.radius != "all"):
        # the plan assumes that all degrees are derived from one product
        prepared_bytes += (len(config.features.distance_degrees) - 1) * memory.feature_bytes // layer_count
    token_bytes = memory.feature_bytes + prepared_bytes if devices == 1 else shards_at_once(devices) * prepared_bytes
    table_bytes = (layer_count + 2) * len(config.features.distance_degrees) * memory.degree_bytes
    for padded_count in sorted({max(image_count, largest), image_count}, reverse=True):
        length = padded_size(-(-padded_count // devices))
        columns = padded_size(padded_count if memory.reference_count == image_count else memory.reference_count)
        bytes_of_all = token_bytes + mean_bytes + table_bytes * columns / memory.reference_count
        total_bytes = int(bytes_of_all * length / image_count)
        if total_bytes <= available_bytes:
            break
    if total_bytes > available_bytes and where == "auto":
        return None
    if total_bytes > memory_bytes > 0:
        # without room for two sets, the caller plans one
        if sets == 1:
            logger.warning(HOST_KEEPS_DISTANCES)
        return None
    return DevicePlan(total_bytes, (length, columns), devices)
