"""The plan of one set: its images, and where their features and distances are stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codegraph_jax.core.arrays import GIB
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.roi import InspectedArea
from codegraph_jax.data.samples import Sample
from codegraph_jax.features.memory import MEAN_TABLES, MemoryPlan
from codegraph_jax.features.token_set import TokenSet


@dataclass(frozen=True)
class DevicePlan:
    """Distances that stay on devices, which share the images.

    Tables are padded to `padded_shape`, images of a device and references. `total_bytes` is the estimate for one
    device.
    """

    total_bytes: int
    padded_shape: tuple[int, int]
    device_count: int = 1

    @property
    def device_length(self) -> int:
        """Number of images to which features on a device are padded; 0: features stay on the host."""
        return self.padded_shape[0] if self.device_count == 1 else 0

    def __str__(self) -> str:
        size = f"{self.total_bytes / GIB:.1f} GiB of memory"
        if self.device_count == 1:
            return f"about {size} on the device, where distances stay"
        return f"about {size} on each of {self.device_count} devices, where distances stay"


@dataclass(frozen=True)
class SetPlan:
    """One set of images and how it is compared.

    `added` images are scored against the set; `areas` has the inspected area of each image, of added ones last. Without
    a device plan, distances are stored on the host.
    """

    images: Sequence[Sample] | TokenSet
    added: Sequence[Sample]
    areas: Sequence[InspectedArea]
    frame: Frame
    memory: MemoryPlan
    device_plan: DevicePlan | None

    def __len__(self) -> int:
        return len(self.images) + len(self.added)

    def __str__(self) -> str:
        return str(self.device_plan or self.memory)

    def check(self, action: str) -> None:
        """Calls `MemoryPlan.check` for the data that this plan keeps on the host."""
        if self.device_plan is None:
            self.memory.check(action)
        elif self.device_plan.device_count > 1:
            working_bytes = self.memory.working_bytes - MEAN_TABLES * self.memory.degree_bytes
            replace(self.memory, table_bytes=0, working_bytes=working_bytes, degree_bytes=0).check(action)
