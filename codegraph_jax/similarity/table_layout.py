"""Where the tables of distances are that stay on devices, and the table that the ring writes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from codegraph_jax.core.arrays import padded_size, zero_padded
from codegraph_jax.core.transfers import filled, to_device, to_host
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.similarity.references import reference_columns
from codegraph_jax.similarity.schedule import RingCall, Shards, shards_of

TABLE_SPEC = P(None, AXIS)

Table = list[Float[Array, "r s t p"]]
"""Distances of one layer: for each device an array of its images, infinite in padded rows and columns."""


@dataclass(frozen=True)
class TableLayout:
    """The rows and columns of tables of n images and m references: each device has the rows of its own images.

    Attributes:
        mesh: devices of this process.
        references: indices of the m reference images, in ascending order.
        shards: range of the images of each device.
        row_count: rows s on each device, with padding.
        column_count: columns t, with padding.
    """

    mesh: DeviceMesh
    references: Int[np.ndarray, " m"]
    shards: Shards
    row_count: int
    column_count: int

    @classmethod
    def of(
        cls, mesh: DeviceMesh, n: int, references: Int[np.ndarray, " m"], minimum: tuple[int, int] = (0, 0)
    ) -> "TableLayout":
        """The layout of tables of n images; with a minimum of rows and columns, tables share compiled programs."""
        shards = shards_of(mesh, (n,))
        longest = int((shards[:, 1] - shards[:, 0]).max())
        rows, columns = max(padded_size(longest), minimum[0]), max(padded_size(len(references)), minimum[1])
        return cls(mesh, references, shards, rows, columns)

    @property
    def image_counts(self) -> list[int]:
        """Number of images of each device."""
        counts: list[int] = (self.shards[:, 1] - self.shards[:, 0]).tolist()
        return counts

    @property
    def column_of(self) -> Int[np.ndarray, " n"]:
        """Column of each image, -1 if it is not a reference."""
        return reference_columns(int(self.shards[-1, 1]), self.references)

    def repeat(self, values: Any) -> list[Array]:
        """The same values on every device."""
        return [to_device(values, device) for device in self.mesh.devices]

    def split(self, values: Any) -> list[Array]:
        """On each device the values of its images, padded with zeros."""
        return [
            to_device(zero_padded(np.asarray(values[start:stop]), self.row_count), device)
            for device, (start, stop) in zip(self.mesh.devices, self.shards)
        ]

    def split_table(self, table: Float[np.ndarray, "r n m p"]) -> Table:
        """A table of the host on the devices."""
        shards = []
        for device, (start, stop) in zip(self.mesh.devices, self.shards):
            shard = np.full((len(table), self.row_count, self.column_count, table.shape[3]), np.inf, np.float32)
            shard[:, : stop - start, : len(self.references)] = table[:, start:stop]
            shards.append(to_device(shard, device))
        return shards

    def join(self, shards: Table) -> Float[np.ndarray, "r n ..."]:
        """The values of all images on the host, without padded rows."""
        return np.concatenate([to_host(shard)[:, :count] for shard, count in zip(shards, self.image_counts)], axis=1)

    def degrees(self, table: Table) -> Iterator[Float[np.ndarray, "n m p"]]:
        """A table on the host, one degree after the other."""
        for degree in range(len(table[0])):
            yield self.join([shard[degree : degree + 1] for shard in table])[0][:, : len(self.references)]


class TableBuffer:
    """A table while it is computed, with the rows of its images on each device, and its `ring.Writer`."""

    def __init__(self, layout: TableLayout, degree_count: int, patch_count: int):
        self._layout, self._column_of, mesh = layout, layout.column_of, layout.mesh
        rows, columns = layout.row_count, layout.column_count
        parts = [filled((degree_count, rows, columns, patch_count), np.inf, np.float32, d) for d in mesh.devices]
        whole = (degree_count, rows * len(mesh), columns, patch_count)
        sharding = NamedSharding(mesh.sharding.mesh, TABLE_SPEC)
        self._table = jax.make_array_from_single_device_arrays(whole, sharding, parts)

    def write_distances(
        self,
        call: RingCall,
        own_distances: Float[Array, "d b r p"],
        remote_distances: Float[Array, "d b r p"],
    ) -> Callable[[], None]:
        """Sends the distances of one call to the devices of their images."""
        layout = self._layout
        first, second = call.images
        start, columns = layout.shards[:, :1], [call.columns(self._column_of, images) for images in (second, first)]
        # writes beyond the last column are dropped
        columns = [np.where(column < 0, layout.column_count, column) for column in columns]
        remote = second - np.roll(start, -call.step, axis=0)
        targets = np.stack([first - start, columns[0], remote, columns[1]], axis=1)
        placed = layout.mesh.put_shards(list(targets.astype(np.int32)))
        self._table, done = _write(layout.mesh, call.step)(self._table, own_distances, remote_distances, placed)
        return partial(jax.block_until_ready, done)

    def table(self) -> Table:
        """The part of each device; the buffer must not be used afterwards."""
        shards = self._table.addressable_shards
        del self._table
        by_device = {shard.device: shard.data for shard in shards}
        return [by_device[device] for device in self._layout.mesh.devices]


@lru_cache(maxsize=32)
def _write(mesh: DeviceMesh, step: int) -> Any:
    """A function that writes the distances of a step to the rows of both images of each pair."""
    devices = len(mesh)
    back = [(d, (d + step) % devices) for d in range(devices)]

    def put(table: Array, image: Array, column: Array, distances: Array) -> Array:
        return table.at[:, image, column].set(distances.swapaxes(0, 1), mode="drop")

    def on_device(
        table: Array, own_distances: Array, remote_distances: Array, targets: Int[Array, "1 4 b"]
    ) -> tuple[Array, Array]:
        image, column, _, _ = targets[0]
        table = put(table, image, column, own_distances[0])
        if step:
            remote_distances, targets = (lax.ppermute(x, AXIS, back) for x in (remote_distances, targets))
        _, _, image, column = targets[0]
        return put(table, image, column, remote_distances[0]), jnp.max(image)[None]

    spread = jax.shard_map(
        on_device,
        mesh=mesh.sharding.mesh,
        in_specs=(TABLE_SPEC, P(AXIS), P(AXIS), P(AXIS)),
        out_specs=(TABLE_SPEC, P(AXIS)),
        check_vma=False,
    )
    return jax.jit(spread, donate_argnums=0)
