"""What a run plans before it computes: memory of the host, and what stays on the devices.

On one device must fit the features of all layers, one layer as the kernel reads it, its table twice (once without what
is removed), and the mean of all. Of several devices each has the table of its own images, and of a layer the shards
that meet there; features stay on the host. What is left holds tables of layers; those that find no room are computed
again when something is taken out of the references.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax

from codegraph_jax.backbones import Backbone
from codegraph_jax.config import Config
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.sizes import padded
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import Source
from codegraph_jax.data.roi import Inspected
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.memory import COPIES, MemoryPlan, plan_run
from codegraph_jax.similarity.pairwise import derives_degrees
from codegraph_jax.similarity.ring import DEVICE_SHARE, shards_at_once


@dataclass(frozen=True)
class DevicePlan:
    """What stays on the device, or on each of several.

    Attributes:
        kept: layers whose distances do.
        layers: that are compared.
        bytes: that everything takes on a device, about.
        size: images of a device and references that tables are padded to.
        devices: how many share the images.
    """

    kept: int
    layers: int
    bytes: int
    size: tuple[int, int]
    devices: int = 1

    @property
    def rows(self) -> int:
        """Images that arrays of features on a device are padded to; 0: features stay on the host."""
        return self.size[0] if self.devices == 1 else 0

    @property
    def scored_alone(self) -> bool:
        """Whether judging makes no device wait for another: a table that was not kept is made by all of them."""
        return self.devices == 1 or self.kept == self.layers

    def __str__(self) -> str:
        which = "distances" if self.kept == self.layers else f"distances of {self.kept} of {self.layers} layers"
        size = f"{self.bytes / GIB:.1f} GiB"
        if self.devices == 1:
            return f"estimate of memory: {which} stay on the device, {size} with features and work"
        return f"estimate of memory: {which} stay on {self.devices} devices, {size} on each with work"


@dataclass(frozen=True)
class SetPlan:
    """One set of images and how it is compared.

    Attributes:
        images: of the set.
        added: further images, which are judged by these.
        inspected: what of each image is inspected, those of `added` last; empty: everything.
        frame: how images become grids of patches.
        memory: what they need.
        device: what stays on the devices; None: distances go to the host.
    """

    images: Sequence[Source]
    added: Sequence[Source]
    inspected: Sequence[Inspected]
    frame: Frame
    memory: MemoryPlan
    device: DevicePlan | None

    def __len__(self) -> int:
        return len(self.images) + len(self.added)

    def __str__(self) -> str:
        return str(self.device or self.memory)

    @property
    def rows(self) -> int:
        """Images that arrays of features on a device are padded to; 0: features stay on the host."""
        return self.device.rows if self.device else 0

    def again(self, config: Config, backbone: Backbone, mesh: DeviceMesh, sets: int, largest: int) -> "SetPlan":
        """The plan of the same set beside others on the devices; arguments as for `plan_set`."""
        return plan_set(config, backbone, mesh, self.images, self.frame, self.added, self.inspected, sets, largest)

    def check(self, action: str) -> None:
        """Holds what stays on the host against what it has; arguments and errors as for `MemoryPlan.check`."""
        memory = self.memory
        if self.device is None:
            memory.check(action)
        elif self.device.devices > 1:
            replace(memory, tables=0, working=memory.working - COPIES * memory.table, table=0).check(action)


def plan_set(
    config: Config,
    backbone: Backbone,
    mesh: DeviceMesh,
    images: Sequence[Source],
    frame: Frame,
    added: Sequence[Source] = (),
    inspected: Sequence[Inspected] = (),
    sets: int = 1,
    largest: int = 0,
) -> SetPlan:
    """Plans the comparison of a set.

    Args:
        config, backbone, mesh: of the run.
        images, frame, added, inspected: see `SetPlan`.
        sets: sets that are on the device at once.
        largest: images of the largest set of the run, see `plan_device`.
    """
    count = len(images) + len(added)
    memory = plan_run(config, backbone, count, frame)
    device = plan_device(config, memory, mesh, count, len(backbone.blocks), sets, largest)
    return SetPlan(images, added, inspected, frame, memory, device)


def plan_device(
    config: Config, plan: MemoryPlan, mesh: DeviceMesh, images: int, layers: int, sets: int = 1, largest: int = 0
) -> DevicePlan | None:
    """What stays on the device; None where the host keeps and scores the distances.

    Args:
        config: of the run.
        plan: of the run.
        mesh: its devices, which `pmap` gives no tables to.
        images: of the set, added ones included.
        layers: that are compared.
        sets: that are on the device at once.
        largest: images of the largest set of the run: where there is room, all are padded to it and share programs.
    """
    devices, where = len(mesh), config.storage.tables
    on_cpu = mesh.devices[0].platform == "cpu"
    if where == "host" or jax.process_count() > 1 or (where == "auto" and on_cpu):
        return None
    if devices > 1 and mesh.backend == "pmap":
        return None
    # a device that does not tell what it has is taken by request alone
    room = DEVICE_SHARE * device_bytes(mesh.devices) / sets or (math.inf if where == "device" else 0.0)
    # the work of the plan is a layer, prepared, and the mean, twice where images are added
    means, prepared = COPIES * plan.table, plan.working - COPIES * plan.table
    if not (derives_degrees(config.similarity) or config.similarity.radius):
        # which takes it that one product serves all degrees
        prepared += (len(config.features.degrees) - 1) * plan.features // layers
    shared = plan.features + prepared + means if devices == 1 else shards_at_once(devices) * prepared + means
    for whole in sorted({max(images, largest), images}, reverse=True):
        rows = padded(-(-whole // devices))
        columns = padded(whole if plan.references == images else plan.references)
        table = len(config.features.degrees) * plan.table * (rows / images) * (columns / plan.references)
        needed = shared * rows / images + 2 * table
        kept = max(0, min(layers, math.floor(min((room - needed) / table, layers))))
        if kept == layers:
            break
    if room < needed and where == "auto":
        return None
    return DevicePlan(kept, layers, int(needed + kept * table), (rows, columns), devices)
