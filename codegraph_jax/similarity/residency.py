"""Whether the distances of a run stay on the device that computes them, and how many layers of them.

What must fit is the features of all layers, one layer as the kernel reads it, its table twice (once without what is
removed), and the mean of all. What is left holds tables of layers; those that find no room are computed again when
something is taken out of the references.
"""

import math
from dataclasses import dataclass

import jax

from codegraph_jax.config import Config
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.sizes import padded
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.memory import MemoryPlan
from codegraph_jax.similarity.pairwise import DEVICE_SHARE


@dataclass(frozen=True)
class DevicePlan:
    """What stays on the device.

    Attributes:
        kept: layers whose distances do.
        layers: that are compared.
        bytes: that everything takes, about.
        size: images and references that tables are padded to.
    """

    kept: int
    layers: int
    bytes: int
    size: tuple[int, int]

    def __str__(self) -> str:
        which = "distances" if self.kept == self.layers else f"distances of {self.kept} of {self.layers} layers"
        return f"estimate of memory: {which} stay on the device, {self.bytes / GIB:.1f} GiB with features and work"


def plan_device(
    config: Config, plan: MemoryPlan, mesh: DeviceMesh, images: int, layers: int, sets: int = 1, largest: int = 0
) -> DevicePlan | None:
    """What stays on the device; None where the host keeps and scores the distances.

    Args:
        config: of the run.
        plan: of the run.
        mesh: its devices.
        images: of the set, added ones included.
        layers: that are compared.
        sets: that are on the device at once.
        largest: images of the largest set of the run: where there is room, all are padded to it and share programs.
    """
    (device, *others), where = mesh.devices, config.storage.tables
    if where == "host" or others or jax.process_count() > 1 or (where == "auto" and device.platform == "cpu"):
        return None
    # a device that does not tell what it has is taken by request alone
    room = DEVICE_SHARE * device_bytes([device]) / sets or (math.inf if where == "device" else 0.0)
    for rows in sorted({padded(max(images, largest)), padded(images)}, reverse=True):
        columns = rows if plan.references == images else padded(plan.references)
        table = len(config.features.degrees) * plan.table * (rows / images) * (columns / plan.references)
        # the work of the plan is a layer, prepared, and the mean, twice where images are added
        needed = (plan.features + plan.working) * rows / images + 2 * table
        kept = max(0, min(layers, math.floor(min((room - needed) / table, layers))))
        if kept == layers:
            break
    if room < needed and where == "auto":
        return None
    return DevicePlan(kept, layers, int(needed + kept * table), (rows, columns))
