"""Tables of distances that stay on the devices that compute them, and are scored there.

Only scores are copied to the host. Each of several devices keeps the rows of its own images: the ring
(`codegraph_jax.similarity.ring`) computes distances in both directions, and sends those of remote images back to their
device, 4 bytes for each patch and degree. Arrays are padded to few sizes (`core.sizes.padded`), so that the categories
of a run share their compiled programs.

Distances are bit-identical to those of `HostTables`; scores are summed in a different order (1e-6).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.progress import Progress
from codegraph_jax.core.sizes import padded, zero_padded
from codegraph_jax.core.transfers import filled, to_device, to_host
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.features.on_device import DeviceLayer, tokens_on_device
from codegraph_jax.similarity.host_tables import HostTables, PatchScore
from codegraph_jax.similarity.programs import (
    add,
    divide,
    marked_invalid,
    mask_references,
    pairs_per_iteration,
    refill_table,
    table_scores,
)
from codegraph_jax.similarity.references import reference_columns, schedule_length
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.ring import ring_of
from codegraph_jax.similarity.schedule import PAIRS, RingStep, Shards, shards_of
from codegraph_jax.similarity.stores import StoredLayers
from codegraph_jax.similarity.tiles import DistanceOptions, PatchSet, prepare

CALLS = 32
"""Approximate number of calls that compute a table, so that the progress bar moves."""

CALL_BYTES = 2**26
"""Largest size of the distances from one call; large tables take more calls."""

TABLE_SPEC = P(None, AXIS)

Table = list[Float[Array, "r s t p"]]
"""Distances of one layer: for each device an array of its images, infinite in padded rows and columns."""


class RowShard(NamedTuple):
    """The range of images whose distances are on a device."""

    device: jax.Device
    start: int
    stop: int

    @property
    def image_count(self) -> int:
        """Number of images."""
        return self.stop - self.start


class DeviceMeanDistances(NamedTuple):
    """Mean distances over layers and degrees, of the images of one device; infinite in padded rows and columns."""

    values: Float[Array, "s t p"]
    image_count: int
    reference_count: int


class DeviceTables:
    """Distances on devices, kept for as many layers as fit; those of other layers are computed again when needed.

    Attributes:
        shape: (images n, references m, patches p).
    """

    def __init__(
        self,
        layers: Sequence[DeviceLayer | Array | np.ndarray],
        references: Int[np.ndarray, " m"],
        options: DistanceOptions,
        mesh: DeviceMesh,
        k: int,
        valid: Bool[np.ndarray, "n p"] | None = None,
        kept_layers: int | None = None,
        advance: Progress = lambda pairs: None,
        store: StoredLayers | None = None,
        size: tuple[int, int] = (0, 0),
    ):
        """Computes or reads all tables, and their scores: the slow part of `compare_images`.

        Args:
            layers: normalised patch tokens of each layer.
            references: images that the others are compared with, ascending.
            options: kernel, degrees and grid.
            mesh: devices of this process.
            k: number of distances that a score averages.
            valid: inspected patches; None: all.
            kept_layers: number of layers whose tables stay on the devices; None: all.
            advance: called with the number of finished pairs.
            store: tables of an interrupted run, which stores new ones.
            size: minimum numbers of images of a device and of references, to which tables are padded.

        Raises:
            jax.errors.JaxRuntimeError: a device runs out of memory.
        """
        n, p, _ = layers[0].shape
        self.shape = (n, len(references), p)
        self._layers, self._references, self._options, self._mesh = layers, references, options, mesh
        self._shards = shards_of(mesh, (n,))
        self._row_shards = [RowShard(device, int(a), int(b)) for device, (a, b) in zip(mesh.devices, self._shards)]
        lengths = [len(layer.values) for layer in layers if isinstance(layer, DeviceLayer)]
        longest = max(row_shard.image_count for row_shard in self._row_shards)
        self._images, self._column_count = (
            max([padded(longest), size[0], *lengths]),
            max(padded(len(references)), size[1]),
        )
        self._valid = None if valid is None else self._rows(valid)
        self._column_of = reference_columns(n, references)
        self._kept: dict[int, Table] = {}
        scores, used, k_there = [], self._padded_columns(np.ones(self.shape[:2], bool)), self._each(np.int32(k))
        total = [filled((self._images, self._column_count, p), 0, np.float32, device) for device in mesh.devices]
        for number in range(len(layers)):
            if store and (found := store.find(number)) is not None:
                table = self._to_devices(found)
                advance(schedule_length(n, len(references)))
            else:
                table = self._compute(number, advance)
                if store:
                    store.save(number, self._degrees(table), (len(options.degrees), *self.shape))
            scores.append(list(map(table_scores, table, k_there, used)))
            total = list(map(add, total, table))
            if kept_layers is None or number < kept_layers:
                self._kept[number] = table
            del table
        count = self._each(np.float32(len(layers) * len(options.degrees)))
        self._means = [
            DeviceMeanDistances(divide(part, divisor), row_shard.image_count, len(references))
            for part, divisor, row_shard in zip(total, count, self._row_shards)
        ]
        self._k, self._first_scores = k, list(map(self._to_host, scores))

    def __len__(self) -> int:
        return len(self._layers)

    def means(self) -> Sequence[DeviceMeanDistances]:
        """Mean over layers and degrees; each device has those of its images."""
        return self._means

    def scores(
        self, k: int, columns: Int[np.ndarray, " c"], patch_score: PatchScore | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Scores of every layer, see `HostTables.scores`; another score is computed on the host."""
        if patch_score:
            return self.host().scores(k, columns, patch_score)
        if k == self._k and len(columns) == self.shape[1]:
            return [layer.copy() for layer in self._first_scores]
        return self.scores_without(k, columns, Exclusions.none(self.shape), ())

    def scores_without(
        self,
        k: int,
        columns: Int[np.ndarray, " c"],
        exclusions: Exclusions,
        scores: Sequence[Float[np.ndarray, "r n p"]],
        patch_score: PatchScore | None = None,
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Scores without some references or patches, see `HostTables.scores_without`; all scores are computed."""
        if patch_score:
            return self.host().scores_without(k, columns, exclusions, scores, patch_score)
        usable = np.zeros(self.shape[:2], bool)
        usable[:, columns] = ~exclusions.pairs[:, columns]
        used, k_there = self._padded_columns(usable), self._each(np.int32(k))
        excluded = [(self._column_mask(mask.columns), self._rows(mask.patches)) for mask in exclusions.masks]
        removed = exclusions.removed
        losing = np.intersect1d(np.flatnonzero(removed.any(axis=1)), self._references[columns])
        rescored = []
        for number in range(len(self)):
            table = self._table(number)
            if len(losing):
                table = self._without(number, table, removed, losing)
            for mask, patches in excluded:
                table = list(map(mask_references, table, mask, patches))
            rescored.append(list(map(table_scores, table, k_there, used)))
            del table
        return list(map(self._to_host, rescored))

    def host(self) -> HostTables:
        """Copies of all tables in the memory of the host."""
        copies = [self._to_host(self._table(number))[:, :, : self.shape[1]] for number in range(len(self))]
        return HostTables(copies, self._layers, (self.shape[0],), self._references, self._options)

    def _table(self, number: int) -> Table:
        """The table of a layer, which is computed if it was not kept."""
        return self._kept[number] if number in self._kept else self._compute(number)

    def _compute(self, number: int, advance: Progress = lambda pairs: None) -> Table:
        buffer = _RowBuffer(self._mesh, self._shards, self._column_of, self._part)
        # distances of one call, 4 bytes each in both directions, are small compared with the table
        most = min(self._images**2 // CALLS, CALL_BYTES // (2 * 4 * len(self._options.degrees) * self.shape[2]))
        # with a fixed length a call is not repeated with fewer pairs: a device that has no memory for a call has none
        # for the table either, and the host stores it instead
        ring_of(self._mesh, self._options).run(
            self._layers[number], self._shards, self._references, buffer.write_distances, advance,
            device_length=self._images, pairs=max(PAIRS, most),
        )  # fmt: skip
        table = buffer.shards()
        return table if self._valid is None else list(map(marked_invalid, table, self._valid))

    def _degrees(self, table: Table) -> Iterator[Float[np.ndarray, "n m p"]]:
        """A table on the host, one degree after the other."""
        for degree in range(len(table[0])):
            yield self._to_host([part[degree : degree + 1] for part in table])[0][:, : self.shape[1]]

    @property
    def _part(self) -> tuple[int, int, int, int]:
        """Shape of the part of a table on one device."""
        return len(self._options.degrees), self._images, self._column_count, self.shape[2]

    def _to_devices(self, table: Float[np.ndarray, "r n m p"]) -> Table:
        parts = []
        for row_shard in self._row_shards:
            part = np.full(self._part, np.inf, np.float32)
            part[:, : row_shard.image_count, : self.shape[1]] = table[:, row_shard.start : row_shard.stop]
            parts.append(to_device(part, row_shard.device))
        return parts

    def _without(
        self, number: int, table: Table, removed: Bool[np.ndarray, "n p"], losing: Int[np.ndarray, " l"]
    ) -> Table:
        """A copy of a table, updated for patches that are removed from references."""
        # the hand-written kernels cannot mask patches; `direct` gives the same distances
        kernel = "direct" if self._options.kernel.startswith("fused") else self._options.kernel
        options = self._options._replace(kernel=kernel, masked=True)
        layer = self._layers[number]
        own = [
            prepare(tokens_on_device(shard.device, layer, slice(shard.start, shard.stop), self._images), options)
            for shard in self._row_shards
        ]
        table = list(map(jnp.copy, table))
        # a single device has all references already; others get at most as many as they have images
        size = len(losing) if len(self._mesh) == 1 else self._images
        for some in (losing[start : start + size] for start in range(0, len(losing), size)):
            table = self._without_some(number, table, own, removed, some, options)
        return table

    def _without_some(
        self,
        number: int,
        table: Table,
        own: list[PatchSet],
        removed: Bool[np.ndarray, "n p"],
        losing: Int[np.ndarray, " l"],
        options: DistanceOptions,
    ) -> Table:
        """Updates a table in place for some references that lose patches; `own` are the prepared images."""
        column = self._column_of[losing]
        if len(self._mesh) == 1:
            others, places, leaving = own, losing, self._rows(removed)
        else:
            size = padded(len(losing))
            tokens = zero_padded(np.asarray(self._layers[number][losing]), size)
            others = [prepare(there, options) for there in self._each(tokens)]
            places, leaving = np.arange(len(losing)), self._each(zero_padded(removed[losing], size))
        listed = self._each(zero_padded(np.stack([places, column], axis=1).astype(np.int32), self._column_count))
        waiting: list[Array] = []
        longest = max(row_shard.image_count for row_shard in self._row_shards)
        for start, stop in _spans(longest * len(losing), pairs_per_iteration(options)):
            done = []
            for d, row_shard in enumerate(self._row_shards):
                ends = np.minimum([start, stop], row_shard.image_count * len(losing))
                numbers = to_device(np.array([*ends, max(row_shard.image_count, 1)], np.int32), row_shard.device)
                table[d], finished = refill_table(table[d], own[d], others[d], leaving[d], listed[d], numbers, options)
                done.append(finished)
            for finished in waiting:
                jax.block_until_ready(finished)
            waiting = done
        return table

    def _padded_columns(self, used: Bool[np.ndarray, "n m"]) -> list[Bool[Array, "s t"]]:
        return self._rows(np.pad(used, ((0, 0), (0, self._column_count - used.shape[1]))))

    def _column_mask(self, columns: Int[np.ndarray, " c"]) -> list[Bool[Array, " t"]]:
        mask = np.zeros(self._column_count, bool)
        mask[columns] = True
        return self._each(mask)

    def _each(self, values: Any) -> list[Array]:
        """The same values on every device."""
        return [to_device(values, device) for device in self._mesh.devices]

    def _rows(self, values: Any) -> list[Array]:
        """On each device the values of its images, padded with zeros."""
        return [
            to_device(zero_padded(np.asarray(values[row_shard.start : row_shard.stop]), self._images), row_shard.device)
            for row_shard in self._row_shards
        ]

    def _to_host(self, parts: Table) -> Float[np.ndarray, "r n ..."]:
        """The values of all images on the host, without padding."""
        return np.concatenate([to_host(x)[:, : s.image_count] for x, s in zip(parts, self._row_shards)], axis=1)


def _spans(pairs: int, step: int) -> list[tuple[int, int]]:
    """At most `CALLS` ranges of pairs, each of whole steps."""
    size = -(-pairs // (CALLS * step)) * step
    return [(start, min(start + size, pairs)) for start in range(0, pairs, max(size, 1))]


class _RowBuffer:
    """A table while it is computed, with the rows of its images on each device, and its `ring.Writer`."""

    def __init__(
        self, mesh: DeviceMesh, shards: Shards, column: Int[np.ndarray, " n"], shape: tuple[int, int, int, int]
    ):
        degrees, rows, self._column_count, patches = shape
        self._mesh, self._shards, self._column_of = mesh, shards, column
        parts = [filled(shape, np.inf, np.float32, device) for device in mesh.devices]
        whole = (degrees, rows * len(mesh), self._column_count, patches)
        sharding = NamedSharding(mesh.sharding.mesh, TABLE_SPEC)
        self._table = jax.make_array_from_single_device_arrays(whole, sharding, parts)

    def write_distances(
        self,
        ring_step: RingStep,
        mine: Shards,
        theirs: Shards,
        own_distances: Float[Array, "d b r p"],
        remote_distances: Float[Array, "d b r p"],
    ) -> Callable[[], None]:
        """Sends the distances of one call to the devices of their images."""
        first, second = ring_step.images(mine, theirs)
        start, to = self._shards[:, :1], [ring_step.columns(self._column_of, images) for images in (second, first)]
        # writes beyond the last column are dropped
        to = [np.where(column < 0, self._column_count, column) for column in to]
        remote = second - np.roll(start, -ring_step.step, axis=0)
        places = np.stack([first - start, to[0], remote, to[1]], axis=1)
        there = self._mesh.put_shards(list(places.astype(np.int32)))
        self._table, done = _write(self._mesh, ring_step.step)(self._table, own_distances, remote_distances, there)
        return partial(jax.block_until_ready, done)

    def shards(self) -> list[Float[Array, "r s t p"]]:
        """The part of each device; the buffer must not be used afterwards."""
        shards = self._table.addressable_shards
        del self._table
        by_device = {shard.device: shard.data for shard in shards}
        return [by_device[device] for device in self._mesh.devices]


@lru_cache(maxsize=32)
def _write(mesh: DeviceMesh, step: int) -> Any:
    """A function that writes the distances of a step to the rows of both images of each pair."""
    devices = len(mesh)
    back = [(d, (d + step) % devices) for d in range(devices)]

    def put(table: Array, image: Array, column: Array, distances: Array) -> Array:
        return table.at[:, image, column].set(distances.swapaxes(0, 1), mode="drop")

    def on_device(
        table: Array, own_distances: Array, remote_distances: Array, places: Int[Array, "1 4 b"]
    ) -> tuple[Array, Array]:
        image, column, _, _ = places[0]
        table = put(table, image, column, own_distances[0])
        if step:
            remote_distances, places = (lax.ppermute(x, AXIS, back) for x in (remote_distances, places))
        _, _, image, column = places[0]
        return put(table, image, column, remote_distances[0]), jnp.max(image)[None]

    spread = jax.shard_map(
        on_device,
        mesh=mesh.sharding.mesh,
        in_specs=(TABLE_SPEC, P(AXIS), P(AXIS), P(AXIS)),
        out_specs=(TABLE_SPEC, P(AXIS)),
        check_vma=False,
    )
    return jax.jit(spread, donate_argnums=0)
