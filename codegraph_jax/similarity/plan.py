"""Plans the memory of a run before it computes: on the host, and on the devices if distances stay there.

A single device holds the features of all layers, one layer prepared for the kernel, its table twice (once without
removed patches), and the mean table. Each of several devices holds the tables of its own images and the shards of a
layer that it compares at once; features stay on the host. The remaining memory keeps the tables of as many layers as
fit; the other tables are computed again when patches are removed from the references.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.sizes import padded
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import Source
from codegraph_jax.data.roi import InspectedArea
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.memory import MEAN_TABLES, MemoryPlan, plan_run
from codegraph_jax.features.token_set import TokenSet
from codegraph_jax.similarity.kernels import derives_degrees
from codegraph_jax.similarity.ring import DEVICE_SHARE, shards_at_once
from codegraph_jax.similarity.time_estimate import compares_everything


@dataclass(frozen=True)
class DevicePlan:
    """The distances that stay on devices, which share the images: those of `kept_layers` of the layers.

    Tables are padded to `size`, images of a device and references. `bytes` is the estimated total on one device.
    """

    kept_layers: int
    layer_count: int
    bytes: int
    size: tuple[int, int]
    device_count: int = 1

    @property
    def device_length(self) -> int:
        """Number of images to which features on a device are padded; 0: features stay on the host."""
        return self.size[0] if self.device_count == 1 else 0

    @property
    def scored_alone(self) -> bool:
        """True if each device can score its own images, since no table has to be computed again by all devices."""
        return self.device_count == 1 or self.kept_layers == self.layer_count

    def __str__(self) -> str:
        some = f"distances of {self.kept_layers} of {self.layer_count} layers"
        which = "distances" if self.kept_layers == self.layer_count else some
        size = f"{self.bytes / GIB:.1f} GiB"
        if self.device_count == 1:
            return f"memory (estimate): {which} stay on the device, {size} with features and working memory"
        return f"memory (estimate): {which} stay on {self.device_count} devices, {size} on each with working memory"


@dataclass(frozen=True)
class SetPlan:
    """One set of images and how it is compared.

    `added` images are scored against the set; `areas` has the inspected area of each image, of added ones last, and is
    empty if everything is inspected. Without a device plan, distances are stored on the host.
    """

    images: Sequence[Source] | TokenSet
    added: Sequence[Source]
    areas: Sequence[InspectedArea]
    frame: Frame
    memory: MemoryPlan
    device: DevicePlan | None

    def __len__(self) -> int:
        return len(self.images) + len(self.added)

    def __str__(self) -> str:
        return str(self.device or self.memory)

    def check(self, action: str) -> None:
        """Checks that the data on the host fit its memory; arguments and errors as for `MemoryPlan.check`."""
        memory = self.memory
        if self.device is None:
            memory.check(action)
        elif self.device.device_count > 1:
            replace(memory, tables=0, working=memory.working - MEAN_TABLES * memory.table, table=0).check(action)


def plan_set(
    config: Config,
    backbone: LoadedBackbone,
    mesh: DeviceMesh,
    images: Sequence[Source] | TokenSet,
    frame: Frame,
    added: Sequence[Source] = (),
    areas: Sequence[InspectedArea] = (),
    sets: int = 1,
    largest: int = 0,
) -> SetPlan:
    """Plans the comparison of a set; arguments as for `SetPlan` and `plan_device`."""
    count = len(images) + len(added)
    if compares_everything(config, backbone, count, frame.grid):
        config = replace(config, similarity=config.similarity.full())
    memory = plan_run(config, backbone, count, frame)
    device = plan_device(config, memory, mesh, count, len(backbone.blocks), sets, largest)
    return SetPlan(images, added, areas, frame, memory, device)


def plan_device(
    config: Config,
    plan: MemoryPlan,
    mesh: DeviceMesh,
    image_count: int,
    layer_count: int,
    sets: int = 1,
    largest: int = 0,
) -> DevicePlan | None:
    """The distances that stay on devices; None if the host stores and scores them, as with several `pmap` devices.

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
    room = DEVICE_SHARE * device_bytes(mesh.devices) / sets or (math.inf if where == "device" else 0.0)
    # the working memory of the plan is a prepared layer, and two mean tables, since added images need a copy
    means, prepared = MEAN_TABLES * plan.table, plan.working - MEAN_TABLES * plan.table
    if not (derives_degrees(config.similarity, config.precision) or config.similarity.radius != "all"):
        # the plan assumes that all degrees are derived from one product
        prepared += (len(config.features.degrees) - 1) * plan.features // layer_count
    shared = plan.features + prepared + means if devices == 1 else shards_at_once(devices) * prepared + means
    for whole in sorted({max(image_count, largest), image_count}, reverse=True):
        length = padded(-(-whole // devices))
        columns = padded(whole if plan.reference_count == image_count else plan.reference_count)
        table = len(config.features.degrees) * plan.table * (length / image_count) * (columns / plan.reference_count)
        needed = shared * length / image_count + 2 * table
        kept_layers = max(0, min(layer_count, math.floor(min((room - needed) / table, layer_count))))
        if kept_layers == layer_count:
            break
    if room < needed and where == "auto":
        return None
    return DevicePlan(kept_layers, layer_count, int(needed + kept_layers * table), (length, columns), devices)
