"""Tables of distances that stay on one device: made there, scored there, and made again without what is removed.

`codegraph_jax.similarity.pairwise` sends every chunk of distances to the host, whose cores then sort them. A device
that has room for the tables does without the host: calls are as many for a thousand images as for ten, and what comes
back are scores. Arrays are padded to few sizes (`core.sizes.padded`), so that the categories of a run share their
programs.

Distances are those of the other route, bit for bit; scores differ in the order in which they add up (1e-6).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.progress import Progress
from codegraph_jax.core.sizes import padded
from codegraph_jax.core.transfers import filled, to_device, to_host, wait
from codegraph_jax.features.on_device import DeviceLayer
from codegraph_jax.similarity.judged import NOT_JUDGED
from codegraph_jax.similarity.order import mean_of_smallest
from codegraph_jax.similarity.pairwise import CHUNK_TILES, schedule, whole_batches
from codegraph_jax.similarity.rows import TIE
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, pair_distances, prepare

CALLS = 32
"""Calls that make a table, whatever its size: as many steps has the progress bar."""

TOGETHER = 32
"""Images that are scored at once: a copy of their distances exists meanwhile."""


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
    """A table on a device [r, n, m, p], of which each degree comes to the host when it is asked for."""

    def __init__(self, table: Float[Array, "r s t p"], images: int, references: int):
        self._table, self._images, self._references = table, images, references

    @property
    def nbytes(self) -> int:
        degrees, _, _, patches = self._table.shape
        return int(degrees * self._images * self._references * patches * self._table.dtype.itemsize)

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Float[np.ndarray, "n m p"]]:
        for degree in range(len(self)):
            yield to_host(self._table[degree])[: self._images, : self._references]


class Barred(NamedTuple):
    """References that must not serve some patches.

    Attributes:
        columns: of the references [c].
        patches: the patches [n, p].
    """

    columns: Int[np.ndarray, " c"]
    patches: Bool[np.ndarray, "n p"]


class ResidentTables:
    """Distances of every layer on a device, as many of them as it has room for; others are made again when asked for.

    Attributes:
        shape: (images n, references m, patches p).
        mean: over layers and degrees.
    """

    def __init__(
        self,
        layers: Sequence[DeviceLayer | Array | np.ndarray],
        references: Int[np.ndarray, " m"],
        options: TileOptions,
        device: jax.Device,
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
            device: where everything is.
            k: neighbours that a score averages.
            judged: patches that are; None: all.
            kept: tables that stay; None: all.
            progress: called as pairs are done.
            store: what an earlier start has of the tables, and where this one keeps them.
            size: images and references that tables are padded to; what they must be at least, of itself.
        """
        n, p, _ = layers[0].shape
        self.shape = (n, len(references), p)
        self._layers, self._references, self._options, self._device = layers, references, options, device
        lengths = [len(layer.rows) for layer in layers if isinstance(layer, DeviceLayer)]
        self._images, self._columns = max([padded(n), size[0], *lengths]), max(padded(len(references)), size[1])
        self._judged = None if judged is None else to_device(self._rows(judged), device)
        pairs = schedule(n, references)
        self._pairs = len(pairs)
        listing = np.stack(pairs.listing.at(np.arange(len(pairs)))).astype(np.int32)
        # as long for all numbers of images that are padded to the same
        longest = self._images * self._columns
        self._listing = to_device(np.pad(listing, ((0, 0), (0, longest - len(pairs)))), device)
        # a column that does not exist is not written to
        column = np.where(pairs.column < 0, self._columns, pairs.column)
        self._column = to_device(self._rows(column, self._columns).astype(np.int32), device)
        self._kept: dict[int, Array] = {}
        scores, total = [], filled((self._images, self._columns, p), 0, np.float32, device)
        serves, k_there = self._serves(np.ones(self.shape[:2], bool)), to_device(np.int32(k), device)
        for number in range(len(layers)):
            if store and (found := store.find(number)) is not None:
                table = self._copied(found)
                progress(self._pairs)
            else:
                table = self._made(number, progress)
                if store:
                    store.keep(number, HostView(table, *self.shape[:2]))
            scores.append(_scores(table, k_there, serves))
            total = _add(total, table)
            if kept is None or number < kept:
                self._kept[number] = table
            del table
        count = to_device(np.float32(len(layers) * len(options.degrees)), device)
        self.mean = Mean(_divide(total, count), *self.shape[:2])
        self._k, self._first_scores = k, [to_host(layer)[:, :n] for layer in scores]

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
        barred: Sequence[Barred] = (),
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
        serves, k_there = self._serves(serving), to_device(np.int32(k), self._device)
        masks = [(self._column_mask(b.columns), to_device(self._rows(b.patches), self._device)) for b in barred]
        losing = np.zeros(0, np.int64)
        if removed is not None:
            losing = np.intersect1d(np.flatnonzero(removed.any(axis=1)), self._references[columns])
        found = []
        for number in range(len(self)):
            table = self._kept[number] if number in self._kept else self._made(number)
            if len(losing) and removed is not None:
                table = self._without(number, table, removed, losing)
            for mask, patches in masks:
                table = _bar(table, mask, patches)
            found.append(_scores(table, k_there, serves))
            del table
        return [to_host(layer)[:, : self.shape[0]] for layer in found]

    def host(self) -> list[Float[np.ndarray, "r n m p"]]:
        """Copies of all tables in the memory of the host."""
        n, m, _ = self.shape
        tables = (self._kept[number] if number in self._kept else self._made(number) for number in range(len(self)))
        return [to_host(table)[:, :n, :m] for table in tables]

    def _made(self, number: int, progress: Progress = lambda pairs: None) -> Float[Array, "r s t p"]:
        """The table of a layer, computed."""
        shape = (len(self._options.degrees), self._images, self._columns, self.shape[2])
        table = filled(shape, np.inf, np.float32, self._device)
        patches = prepare(self._tokens(number), self._options)
        waiting = None
        for start, stop in _spans(self._pairs, _step(self._options)):
            ends = to_device(np.array([start, stop], np.int32), self._device)
            table, done = _fill(table, patches, self._listing, self._column, ends, self._options)
            if waiting is not None:
                wait(waiting[0])
                progress(waiting[1])
            waiting = done, stop - start
        if waiting is not None:
            wait(waiting[0])
            progress(waiting[1])
        return table if self._judged is None else _mark(table, self._judged)

    def _copied(self, table: Float[np.ndarray, "r n m p"]) -> Float[Array, "r s t p"]:
        """A table of the host on the device."""
        n, m, p = self.shape
        whole = np.full((len(table), self._images, self._columns, p), np.inf, np.float32)
        whole[:, :n, :m] = table
        return to_device(whole, self._device)

    def _without(
        self,
        number: int,
        table: Float[Array, "r s t p"],
        removed: Bool[np.ndarray, "n p"],
        losing: Int[np.ndarray, " l"],
    ) -> Float[Array, "r s t p"]:
        """A copy of a table in which some patches of some references are nobody's nearest."""
        # of the hand-written kernels only the distances are needed, and those know no patches that do not count
        kernel = "direct" if self._options.kernel.startswith("fused") else self._options.kernel
        options = self._options._replace(kernel=kernel, masked=True)
        patches = prepare(self._tokens(number), options)
        removed_there = to_device(self._rows(removed), self._device)
        listed = to_device(np.pad(losing, (0, self._columns - len(losing))).astype(np.int32), self._device)
        table, waiting = jnp.copy(table), None
        for start, stop in _spans(self.shape[0] * len(losing), _step(options)):
            numbers = to_device(np.array([start, stop, self.shape[0]], np.int32), self._device)
            table, done = _refill(table, patches, removed_there, listed, self._column, numbers, options)
            if waiting is not None:
                wait(waiting)
            waiting = done
        return table

    def _tokens(self, number: int) -> Float[Array, "s p c"]:
        """The tokens of a layer, and anything behind them up to the padded number of images."""
        layer = self._layers[number]
        if isinstance(layer, DeviceLayer) and len(layer.rows) >= self._images:
            return layer.rows
        values = np.asarray(layer)
        whole = np.zeros((self._images, *values.shape[1:]), values.dtype)
        whole[: len(values)] = values
        return to_device(whole, self._device)

    def _serves(self, serving: Bool[np.ndarray, "n m"]) -> Bool[Array, "s t"]:
        whole = np.zeros((self._images, self._columns), bool)
        whole[: serving.shape[0], : serving.shape[1]] = serving
        return to_device(whole, self._device)

    def _column_mask(self, columns: Int[np.ndarray, " c"]) -> Bool[Array, " t"]:
        mask = np.zeros(self._columns, bool)
        mask[columns] = True
        return to_device(mask, self._device)

    def _rows(self, values: np.ndarray, fill: int = 0) -> np.ndarray:
        """Values of the images, and of those that fill up."""
        whole = np.full((self._images, *values.shape[1:]), fill, values.dtype)
        whole[: len(values)] = values
        return whole


def _step(options: TileOptions) -> int:
    """Pairs of one turn of the loop: a GPU asks the host before each whether there is another."""
    return whole_batches(CHUNK_TILES, 1 if options.radius else options.batch)


def _spans(pairs: int, step: int) -> list[tuple[int, int]]:
    """`CALLS` stretches of the pairs at most, of whole steps."""
    size = -(-pairs // (CALLS * step)) * step
    return [(start, min(start + size, pairs)) for start in range(0, pairs, max(size, 1))]


@partial(jax.jit, static_argnames="options", donate_argnums=0)
def _fill(
    table: Float[Array, "r s t p"],
    patches: PatchSet,
    listing: Int[Array, "2 l"],
    column: Int[Array, " s"],
    ends: Int[Array, "2"],
    options: TileOptions,
) -> tuple[Float[Array, "r s t p"], Int[Array, ""]]:
    """Pairs of the listing from the first end to the second, both ways, written to their places."""

    def write(places: Array, table: Array) -> Array:
        first, second = listing[0, places], listing[1, places]
        rows, columns = pair_distances(patches, patches, first, second, options)
        for i, j, distances in ((first, second, rows), (second, first, columns)):
            table = table.at[:, i, column[j]].set(distances.swapaxes(0, 1), mode="drop")
        return table

    return _in_turns(write, ends, _step(options), table)


@partial(jax.jit, static_argnames="options", donate_argnums=0)
def _refill(
    table: Float[Array, "r s t p"],
    patches: PatchSet,
    removed: Bool[Array, "s p"],
    losing: Int[Array, " t"],
    column: Int[Array, " s"],
    numbers: Int[Array, "3"],
    options: TileOptions,
) -> tuple[Float[Array, "r s t p"], Int[Array, ""]]:
    """Distances of images to references that lose patches, written where they have grown.

    Args:
        numbers: the stretch of pairs (reference, image), image by image of each reference; and how many images there
            are.
    """
    right = patches._replace(penalty=jnp.where(removed[None], -jnp.inf, patches.penalty))

    def write(places: Array, table: Array) -> Array:
        reference, image = losing[places // numbers[2]], places % numbers[2]
        distances = pair_distances(patches, right, image, reference, options)[0].swapaxes(0, 1)
        old = table[:, image, column[reference]]
        # equal but for rounding: the nearest was not removed
        grown = (jnp.square(distances) > jnp.square(old) + TIE) & jnp.isfinite(old) & (old >= 0)
        return table.at[:, image, column[reference]].set(jnp.where(grown, distances, old), mode="drop")

    return _in_turns(write, numbers[:2], _step(options), table)


def _in_turns(
    write: Callable[[Array, Array], Array], ends: Int[Array, "2"], step: int, table: Float[Array, "r s t p"]
) -> tuple[Float[Array, "r s t p"], Int[Array, ""]]:
    """Writes what the places from the first end to the second say, so many a turn, and says how many turns it took."""
    turns = (ends[1] - ends[0] + step - 1) // step

    def turn(number: Array, table: Array) -> Array:
        # the last turn repeats a place to be full
        return write(jnp.minimum(ends[0] + number * step + jnp.arange(step), ends[1] - 1), table)

    return lax.fori_loop(0, turns, turn, table), turns


@jax.jit
def _scores(table: Float[Array, "r s t p"], k: Int[Array, ""], serves: Bool[Array, "s t"]) -> Float[Array, "r s p"]:
    def of_image(given: tuple[Array, Array]) -> Array:
        distances, serving = given
        return mean_of_smallest(distances, k, 0, serving[:, None])

    # one degree after the other: what is made of a part of it is small
    return lax.map(lambda degree: lax.map(of_image, (degree, serves), batch_size=TOGETHER), table)


@partial(jax.jit, donate_argnums=0)
def _add(total: Float[Array, "s t p"], table: Float[Array, "r s t p"]) -> Float[Array, "s t p"]:
    for degree in table:
        total = total + degree
    return total


@partial(jax.jit, donate_argnums=0)
def _divide(total: Float[Array, "s t p"], count: Float[Array, ""]) -> Float[Array, "s t p"]:
    return total / count


@jax.jit
def _bar(table: Float[Array, "r s t p"], columns: Bool[Array, " t"], patches: Bool[Array, "s p"]) -> Array:
    return jnp.where(columns[:, None] & patches[:, None, :], jnp.inf, table)


@partial(jax.jit, donate_argnums=0)
def _mark(table: Float[Array, "r s t p"], judged: Bool[Array, "s p"]) -> Array:
    return jnp.where(judged[:, None, :], table, NOT_JUDGED)
