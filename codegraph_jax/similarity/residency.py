"""Whether the distances of a run stay on the device that computes them, and how many layers of them.

What must fit is the features of all layers, one layer as the kernel reads it, its table twice (once without what is
removed), and the mean of all. What is left holds tables of layers; those that find no room are computed again when
something is taken out of the references.
"""

import jax

from codegraph_jax.config import Config
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.sizes import padded
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.memory import MemoryPlan
from codegraph_jax.similarity.pairwise import DEVICE_SHARE


def tables_on_device(config: Config, plan: MemoryPlan, mesh: DeviceMesh, images: int, layers: int) -> int | None:
    """How many layers' tables stay on the device; None where the host keeps and scores them.

    Args:
        config: of the run.
        plan: of the run.
        mesh: its devices.
        images: of the set, added ones included.
        layers: that are compared.
    """
    (device, *others), where = mesh.devices, config.storage.tables
    on_cpu = device.platform == "cpu"
    if where == "host" or others or jax.process_count() > 1 or (where == "auto" and on_cpu):
        return None
    room = int(DEVICE_SHARE * device_bytes([device]))
    if not room:
        # a device that does not tell what it has
        return layers if where == "device" else None
    filling = padded(images) / images
    table = plan.table * filling * padded(plan.references) / plan.references
    degrees = len(config.features.degrees)
    # the work of the plan is a layer, prepared, and the mean, twice where images are added
    needed = (plan.features + plan.working) * filling + 2 * degrees * table
    left = room - needed
    if left < 0:
        return 0 if where == "device" else None
    return min(layers, int(left / (degrees * table)))
