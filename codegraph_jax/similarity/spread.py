"""A table of distances over several devices: the ring writes each row to the device that has its image.

In `codegraph_jax.similarity.sharding` a device computes how far its own images are from the visiting ones, and the
visitors from its own. The first stay where they are; the second travel home, at 4 bytes a patch and degree beside the
product of two images.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from codegraph_jax.core.transfers import filled, wait
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.similarity.sharding import RingStep, Shards, images_of

ROWS = P(None, AXIS)


class SpreadTable:
    """Distances of one layer; takes those of the ring's ring_steps, see `sharding.Keep`."""

    def __init__(
        self, mesh: DeviceMesh, shards: Shards, column: Int[np.ndarray, " n"], shape: tuple[int, int, int, int]
    ):
        """
        Args:
            mesh: devices of this process.
            shards: the images of each.
            column: for each image its place among the references, -1 where it is none.
            shape: of the part of each device [r, s, t, p].
        """
        degrees, rows, self._columns, patches = shape
        self._mesh, self._shards, self._column = mesh, shards, column
        parts = [filled(shape, np.inf, np.float32, device) for device in mesh.devices]
        whole = (degrees, rows * len(mesh), self._columns, patches)
        self._table = jax.make_array_from_single_device_arrays(whole, NamedSharding(mesh.sharding.mesh, ROWS), parts)

    def keep(
        self,
        ring_step: RingStep,
        mine: Shards,
        theirs: Shards,
        rows: Float[Array, "d b r p"],
        columns: Float[Array, "d b r p"],
    ) -> Callable[[], None]:
        first, second = images_of(ring_step, mine, theirs)
        start = self._shards[:, :1]
        places = np.stack(
            [
                first - start,
                self._column_of(second, ring_step),
                second - np.roll(start, -ring_step.step, axis=0),
                self._column_of(first, ring_step),
            ],
            axis=1,
        )
        there = self._mesh.place(list(places.astype(np.int32)))
        self._table, done = _write(self._mesh, ring_step.step)(self._table, rows, columns, there)
        return partial(wait, done)

    def parts(self) -> list[Float[Array, "r s t p"]]:
        """Of each device its own, which nothing else holds any more."""
        shards = self._table.addressable_shards
        del self._table
        by_device = {shard.device: shard.data for shard in shards}
        return [by_device[device] for device in self._mesh.devices]

    def _column_of(self, images: Int[np.ndarray, "d b"], ring_step: RingStep) -> Int[np.ndarray, "d b"]:
        """A column that does not exist, which is not written to, for what is no reference and for what fills up."""
        column = self._column.take(images, mode="clip")
        return np.where(ring_step.valid & (column >= 0), column, self._columns)


@lru_cache(maxsize=32)
def _write(mesh: DeviceMesh, step: int) -> Any:
    """Writes the distances of a step to the rows of both images."""
    devices = len(mesh)
    homewards = [(d, (d + step) % devices) for d in range(devices)]

    def put(table: Array, image: Array, column: Array, distances: Array) -> Array:
        return table.at[:, image, column].set(distances.swapaxes(0, 1), mode="drop")

    def on_device(table: Array, rows: Array, columns: Array, places: Int[Array, "1 4 b"]) -> tuple[Array, Array]:
        image, column, _, _ = places[0]
        table = put(table, image, column, rows[0])
        if step:
            columns, places = (lax.ppermute(x, AXIS, homewards) for x in (columns, places))
        _, _, image, column = places[0]
        return put(table, image, column, columns[0]), jnp.max(image)[None]

    spread = jax.shard_map(
        on_device,
        mesh=mesh.sharding.mesh,
        in_specs=(ROWS, P(AXIS), P(AXIS), P(AXIS)),
        out_specs=(ROWS, P(AXIS)),
        check_vma=False,
    )
    return jax.jit(spread, donate_argnums=0)
