"""A set of images and how it is compared: what is inspected, the frame, memory, and what stays on the devices."""

from collections.abc import Sequence
from dataclasses import dataclass

from codegraph_jax.backbones import Backbone
from codegraph_jax.config import Config
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import Source
from codegraph_jax.data.roi import Inspected
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.memory import MemoryPlan, plan_run
from codegraph_jax.similarity.residency import DevicePlan, check_host, plan_device


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
        check_host(self.memory, self.device, action)


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
