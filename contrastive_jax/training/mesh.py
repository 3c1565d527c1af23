"""The devices of a training run, and arrays on them."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

BATCH_AXIS = "data"
"""Name of the mesh axis over which the batch is split."""


def run_mesh() -> Mesh:
    """A mesh of all devices of all processes, over which batches are split."""
    return jax.make_mesh((jax.device_count(),), (BATCH_AXIS,), axis_types=(AxisType.Auto,))


def put_on_mesh(arrays: Any, mesh: Mesh, spec: PartitionSpec | None = None) -> Any:
    """Arrays on the devices of all processes.

    Every process has the whole arrays. `spec` splits them over the devices; without it, each device has all.
    """
    sharding = NamedSharding(mesh, spec or PartitionSpec())

    def place(array: Any) -> Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(place, arrays)
