"""Tables of distances that stay on devices: made there, scored there, and made again without what is removed.

`codegraph_jax.similarity.pairwise` sends every chunk of distances to the host, whose cores then sort them. Devices
that have room for the tables do without the host: calls are as many for a thousand images as for ten, and what comes
back are scores. Of several devices each has the rows of its own images (`codegraph_jax.similarity.spread`), from which
everything else follows without the others. Arrays are padded to few sizes (`core.sizes.padded`), so that the categories
of a run share their programs.

Distances are those of the other route, bit for bit; scores differ in the order in which they add up (1e-6).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.progress import Progress
from codegraph_jax.core.sizes import padded
from codegraph_jax.core.transfers import filled, to_device, to_host, wait
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.on_device import DeviceLayer
from codegraph_jax.similarity.pairwise import CHUNK_TILES, schedule
from codegraph_jax.similarity.programs import (
    add,
    bar,
    divide,
    fill_table,
    mark,
    pairs_of_a_turn,
    refill_table,
    table_scores,
)
from codegraph_jax.similarity.sharding import run_ring, shards_of
from codegraph_jax.similarity.spread import SpreadTable
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, prepare

CALLS = 32
"""Calls that make a table, whatever its size: as many steps has the progress bar."""

MEETING_BYTES = 2**26
"""Distances of pairs of one step of the ring."""

Table = list[Float[Array, "r s t p"]]
"""Distances of one layer, infinite in the rows and columns that fill it up: of each device those of its images."""


class RowShard(NamedTuple):
    """The images whose distances are on a device, from the first to before the second number."""

    device: jax.Device
    start: int
    stop: int

    @property
    def images(self) -> int:
        return self.stop - self.start


class Mean(NamedTuple):
    """Mean distances over layers and degrees on a device.

    Attributes:
        values: infinite in the rows and columns that fill it up [s, t, p].
        images, references: how many there are.
    """

    values: Float[Array, "s t p"]
    images: int
    references: int


class LayerStore(Protocol):
    """What may have the tables of some layers, by their number, and takes those that are computed."""

    def find(self, layer: int) -> Float[np.ndarray, "r n m p"] | None:
        """The table of a layer; None where it is not there."""

    def keep(self, layer: int, table: "HostView") -> None:
        """Takes the table of a layer."""


class HostView:
    """A table on devices [r, n, m, p], of which each degree comes to the host when it is asked for."""

    def __init__(self, table: Table, row_shards: Sequence[RowShard], references: int):
        self._table, self._row_shards, self._references = table, row_shards, references

    @property
    def nbytes(self) -> int:
        degrees, _, _, patches = self._table[0].shape
        images = sum(row_shard.images for row_shard in self._row_shards)
        return int(degrees * images * self._references * patches * self._table[0].dtype.itemsize)

    def __len__(self) -> int:
        return len(self._table[0])

    def __iter__(self) -> Iterator[Float[np.ndarray, "n m p"]]:
        for degree in range(len(self)):
            parts = [
                to_host(part[degree])[: row_shard.images] for part, row_shard in zip(self._table, self._row_shards)
            ]
            yield np.concatenate(parts)[:, : self._references]


class ReferenceMask(NamedTuple):
    """References that must not serve some patches.

    Attributes:
        columns: of the references [c].
        patches: the patches [n, p].
    """

    columns: Int[np.ndarray, " c"]
    patches: Bool[np.ndarray, "n p"]


class ResidentTables:
    """Distances of every layer on devices, of as many as there is room for; others are made again when asked for.

    Attributes:
        shape: (images n, references m, patches p).
        means: over layers and degrees, on each device those of its images, which follow one another.
    """

    def __init__(
        self,
        layers: Sequence[DeviceLayer | Array | np.ndarray],
        references: Int[np.ndarray, " m"],
        options: TileOptions,
        mesh: DeviceMesh,
        k: int,
        judged: Bool[np.ndarray, "n p"] | None = None,
        kept: int | None = None,
        progress: Progress = lambda pairs: None,
        store: LayerStore | None = None,
        size: tuple[int, int] = (0, 0),
    ):
        """
        Args:
            layers: normalised patch tokens of each layer [n, p, c].
            references: indices of the images that serve as references, in ascending order.
            options: kernel, degrees, grid and precision.
            mesh: where everything is: one device, or several of this process.
            k: neighbours that a score averages.
            judged: patches that are; None: all.
            kept: tables that stay; None: all.
            progress: called as pairs are done.
            store: what an earlier start has of the tables, and where this one keeps them.
            size: images of a device and references that tables are padded to; what they must be at least, of itself.
        """
        n, p, _ = layers[0].shape
        self.shape = (n, len(references), p)
        self._layers, self._references, self._options, self._mesh = layers, references, options, mesh
        self._shards = shards_of(mesh, (n,))
        self._row_shards = [RowShard(device, int(a), int(b)) for device, (a, b) in zip(mesh.devices, self._shards)]
        lengths = [len(layer.rows) for layer in layers if isinstance(layer, DeviceLayer)]
        longest = max(row_shard.images for row_shard in self._row_shards)
        self._images, self._columns = max([padded(longest), size[0], *lengths]), max(padded(len(references)), size[1])
        self._judged = None if judged is None else self._rows(judged)
        self._pairs = schedule(n, references)
        self._kept: dict[int, Table] = {}
        scores, serves, k_there = [], self._serves(np.ones(self.shape[:2], bool)), self._each(np.int32(k))
        total = [filled((self._images, self._columns, p), 0, np.float32, device) for device in mesh.devices]
        for number in range(len(layers)):
            if store and (found := store.find(number)) is not None:
                table = self._copied(found)
                progress(len(self._pairs))
            else:
                table = self._made(number, progress)
                if store:
                    store.keep(number, HostView(table, self._row_shards, len(references)))
            scores.append(list(map(table_scores, table, k_there, serves)))
            total = list(map(add, total, table))
            if kept is None or number < kept:
                self._kept[number] = table
            del table
        count = self._each(np.float32(len(layers) * len(options.degrees)))
        self.means = [
            Mean(divide(part, divisor), row_shard.images, len(references))
            for part, divisor, row_shard in zip(total, count, self._row_shards)
        ]
        self._k, self._first_scores = k, list(map(self._fetched, scores))

    def __len__(self) -> int:
        return len(self._layers)

    def scores(
        self, k: int, columns: Int[np.ndarray, " c"], barred: Bool[np.ndarray, "n m"] | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores of every layer: the mean of the k smallest distances to some references.

        Args:
            k: neighbours that a score averages.
            columns: of the references that serve.
            barred: references that must not serve an image.
        """
        if k == self._k and len(columns) == self.shape[1] and barred is None:
            return [layer.copy() for layer in self._first_scores]
        return self.scores_without(k, columns, np.zeros(self.shape[:2], bool) if barred is None else barred)

    def scores_without(
        self,
        k: int,
        columns: Int[np.ndarray, " c"],
        pairs: Bool[np.ndarray, "n m"],
        barred: Sequence[ReferenceMask] = (),
        removed: Bool[np.ndarray, "n p"] | None = None,
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Mutual scores of every layer where some references, or patches of references, must not serve.

        Args:
            k: neighbours that a score averages.
            columns: of the references that serve.
            pairs: references that must not serve an image.
            barred: references that must not serve some patches.
            removed: patches that serve nobody; they are still scored.
        """
        serving = np.zeros(self.shape[:2], bool)
        serving[:, columns] = ~pairs[:, columns]
        serves, k_there = self._serves(serving), self._each(np.int32(k))
        masks = [(self._column_mask(b.columns), self._rows(b.patches)) for b in barred]
        losing = np.zeros(0, np.int64)
        if removed is not None:
            losing = np.intersect1d(np.flatnonzero(removed.any(axis=1)), self._references[columns])
        found = []
        for number in range(len(self)):
            table = self._kept[number] if number in self._kept else self._made(number)
            if len(losing) and removed is not None:
                table = self._without(number, table, removed, losing)
            for mask, patches in masks:
                table = list(map(bar, table, mask, patches))
            found.append(list(map(table_scores, table, k_there, serves)))
            del table
        return list(map(self._fetched, found))

    def host(self) -> list[Float[np.ndarray, "r n m p"]]:
        """Copies of all tables in the memory of the host."""
        tables = (self._kept[number] if number in self._kept else self._made(number) for number in range(len(self)))
        return [self._fetched(table)[:, :, : self.shape[1]] for table in tables]

    def _made(self, number: int, progress: Progress = lambda pairs: None) -> Table:
        """The table of a layer, computed."""
        made = self._made_alone if len(self._mesh) == 1 else self._made_together
        table = made(number, progress)
        return table if self._judged is None else list(map(mark, table, self._judged))

    def _made_alone(self, number: int, progress: Progress) -> Table:
        """By a device that has all images."""
        (device,) = self._mesh.devices
        table = filled(self._part, np.inf, np.float32, device)
        (tokens,) = self._tokens(number)
        patches, waiting = prepare(tokens, self._options), None
        for start, stop in _spans(len(self._pairs), pairs_of_a_turn(self._options)):
            ends = to_device(np.array([start, stop], np.int32), device)
            table, done = fill_table(table, patches, self._listing, self._column, ends, self._options)
            if waiting is not None:
                wait(waiting[0])
                progress(waiting[1])
            waiting = done, stop - start
        if waiting is not None:
            wait(waiting[0])
            progress(waiting[1])
        return [table]

    def _made_together(self, number: int, progress: Progress) -> Table:
        """By devices whose images meet in a ring."""
        table = SpreadTable(self._mesh, self._shards, self._pairs.column, self._part)
        degrees, _, _, patches = self._part
        longest = max(row_shard.images for row_shard in self._row_shards)
        # few calls, and what one of them gives, four bytes a distance both ways, is small beside the table
        most = min(longest**2 // CALLS, MEETING_BYTES // (2 * 4 * degrees * patches))
        how = self._mesh, self._shards, self._options, self._references
        run_ring(self._layers[number], *how, table.keep, progress, most=max(CHUNK_TILES, most))
        return table.parts()

    @property
    def _part(self) -> tuple[int, int, int, int]:
        """Shape of what a device has of a table."""
        return len(self._options.degrees), self._images, self._columns, self.shape[2]

    @cached_property
    def _listing(self) -> Int[Array, "2 l"]:
        """The pairs, as many places for all numbers of images that are padded to the same."""
        listing = np.stack(self._pairs.listing.at(np.arange(len(self._pairs)))).astype(np.int32)
        filling = self._images * self._columns - len(self._pairs)
        return to_device(np.pad(listing, ((0, 0), (0, filling))), self._mesh.devices[0])

    @cached_property
    def _column(self) -> Int[Array, " s"]:
        """The column of each image; one that does not exist is not written to."""
        column = np.where(self._pairs.column < 0, self._columns, self._pairs.column).astype(np.int32)
        filling = self._images - len(column)
        return to_device(np.pad(column, (0, filling), constant_values=self._columns), self._mesh.devices[0])

    def _copied(self, table: Float[np.ndarray, "r n m p"]) -> Table:
        """A table of the host on the devices."""
        parts = []
        for row_shard in self._row_shards:
            part = np.full(self._part, np.inf, np.float32)
            part[:, : row_shard.images, : self.shape[1]] = table[:, row_shard.start : row_shard.stop]
            parts.append(to_device(part, row_shard.device))
        return parts

    def _without(
        self, number: int, table: Table, removed: Bool[np.ndarray, "n p"], losing: Int[np.ndarray, " l"]
    ) -> Table:
        """A copy of a table in which some patches of some references are nobody's nearest."""
        # of the hand-written kernels only the distances are needed, and those know no patches that do not count
        kernel = "direct" if self._options.kernel.startswith("fused") else self._options.kernel
        options = self._options._replace(kernel=kernel, masked=True)
        own = [prepare(tokens, options) for tokens in self._tokens(number)]
        table = list(map(jnp.copy, table))
        # all of them are there already, or as many are brought as a device has of its own
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
        options: TileOptions,
    ) -> Table:
        """`_without` for some of the references, in place; `own` as the kernel reads the images of each device."""
        column = self._pairs.column[losing]
        if len(self._mesh) == 1:
            others, places, leaving = own, losing, self._rows(removed)
        else:
            size = padded(len(losing))
            tokens = _filled_up(np.asarray(self._layers[number][losing]), size)
            others = [prepare(there, options) for there in self._each(tokens)]
            places, leaving = np.arange(len(losing)), self._each(_filled_up(removed[losing], size))
        listed = self._each(_filled_up(np.stack([places, column], axis=1).astype(np.int32), self._columns))
        waiting: list[Array] = []
        for start, stop in _spans(max(s.images for s in self._row_shards) * len(losing), pairs_of_a_turn(options)):
            done = []
            for d, row_shard in enumerate(self._row_shards):
                ends = np.minimum([start, stop], row_shard.images * len(losing))
                numbers = to_device(np.array([*ends, max(row_shard.images, 1)], np.int32), row_shard.device)
                table[d], turns = refill_table(table[d], own[d], others[d], leaving[d], listed[d], numbers, options)
                done.append(turns)
            for turns in waiting:
                wait(turns)
            waiting = done
        return table

    def _tokens(self, number: int) -> list[Float[Array, "s p c"]]:
        """The tokens of a layer, and anything behind them up to the padded number of images."""
        layer = self._layers[number]
        if isinstance(layer, DeviceLayer) and len(layer.rows) >= self._images:
            return [layer.rows]
        return self._rows(np.asarray(layer))

    def _serves(self, serving: Bool[np.ndarray, "n m"]) -> list[Bool[Array, "s t"]]:
        return self._rows(np.pad(serving, ((0, 0), (0, self._columns - serving.shape[1]))))

    def _column_mask(self, columns: Int[np.ndarray, " c"]) -> list[Bool[Array, " t"]]:
        mask = np.zeros(self._columns, bool)
        mask[columns] = True
        return self._each(mask)

    def _each(self, values: Any) -> list[Array]:
        """The same on every device."""
        return [to_device(values, device) for device in self._mesh.devices]

    def _rows(self, values: Any) -> list[Array]:
        """On each device the values of its images, and zeros up to the padded number."""
        return [
            to_device(_filled_up(np.asarray(values[row_shard.start : row_shard.stop]), self._images), row_shard.device)
            for row_shard in self._row_shards
        ]

    def _fetched(self, parts: Table) -> Float[np.ndarray, "r n ..."]:
        """What the devices have of their images, on the host."""
        return np.concatenate([to_host(x)[:, : s.images] for x, s in zip(parts, self._row_shards)], axis=1)


def _filled_up(values: np.ndarray, rows: int) -> np.ndarray:
    """With zeros behind, up to so many rows."""
    whole = np.zeros((rows, *values.shape[1:]), values.dtype)
    whole[: len(values)] = values
    return whole


def _spans(pairs: int, step: int) -> list[tuple[int, int]]:
    """`CALLS` stretches of the pairs at most, of whole steps."""
    size = -(-pairs // (CALLS * step)) * step
    return [(start, min(start + size, pairs)) for start in range(0, pairs, max(size, 1))]
