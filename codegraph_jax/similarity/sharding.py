"""All pairs of images over several devices: rows stay, columns travel around a ring.

Each device holds a shard of the images. In step s it meets the shard of the device s places further on; after half a
turn every two shards have met, since one tile serves both directions. Where the number of devices is even, two shards
meet twice in the last step, once on either device, and each takes half of the pairs.

Where devices cannot hold three shards at once (its own, a remote one and the next), every shard is cut into parts:
part a of all devices meets part a in half a turn, and part b in a whole one.

A pair is computed by the same function as on one device, with the image of lower index on the left, so the distances
are the same bit for bit, on any number of devices and processes. Chunks are padded to equal length; what is padding
appears in no pair.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import Allocate, in_memory
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.progress import Progress
from codegraph_jax.distributed import processes
from codegraph_jax.distributed.chunks import OutOfMemory, is_out_of_memory
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.similarity.listing import PairListing, pairs_of_shards, split
from codegraph_jax.similarity.pairwise import (
    ADVICE,
    CHUNK_TILES,
    DEVICE_SHARE,
    image_bytes,
    pair_chunks,
    pairwise_distances,
    store,
    whole_batches,
)
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, pair_distances, prepare

logger = logging.getLogger(__name__)

SHARDS_AT_ONCE = 3
"""On a device: its own, the one that visits it, and the one that arrives."""

Shards = Int[np.ndarray, "d 2"]
"""The images that each device holds, from the first to before the second; they follow one another."""


@dataclass(frozen=True)
class RingStep:
    """What every device does at once: pairs of one of its own images with one of the shard that visits it.

    Attributes:
        step: how many places the visiting shard has come.
        own, remote: places of the images in the two shards [d, b]; where there is nothing to do, the first pair again.
        valid: which of them count [d, b].
    """

    step: int
    own: Int[np.ndarray, "d b"]
    remote: Int[np.ndarray, "d b"]
    valid: Int[np.ndarray, "d b"]


Keep = Callable[[RingStep, Shards, Shards, Float[Array, "d b r p"], Float[Array, "d b r p"]], Callable[[], None]]
"""Begins to write the distances of one step of the ring, both ways, to their places; what it returns waits for that.
It may be given those of a pair again after a device has run out of memory."""


def ring_steps(
    mine: Shards, theirs: Shards, references: Int[np.ndarray, " m"], batch: int = 1, most: int = CHUNK_TILES
) -> Iterator[RingStep]:
    """The schedule: each pair of images of which one is a reference, once, on one device.

    Args:
        mine: shards that stay.
        theirs: shards that travel, the same or others.
        references: indices of the images that serve as references.
        batch: pairs in one product.
        most: pairs of a device in one step.
    """
    devices = len(mine)
    steps = [[_pairs(mine, theirs, references, d, step) for d in range(devices)] for step in _steps(mine, theirs)]
    longest = [max(len(pairs) for pairs in lists) for lists in steps]
    size = _chunk_size(longest, batch, most)
    for step, (lists, length) in enumerate(zip(steps, longest)):
        # a step without work still passes the shards on
        for start in range(0, max(length, 1), size):
            own, remote, valid = (np.zeros((devices, size), t) for t in (np.int32, np.int32, bool))
            for d, pairs in enumerate(lists):
                count = max(0, min(size, len(pairs) - start))
                own[d, :count], remote[d, :count] = pairs.at(np.arange(start, start + count))
                valid[d, :count] = True
            yield RingStep(step, own, remote, valid)


def _steps(mine: Shards, theirs: Shards) -> range:
    """Half a turn of the ring where the shards are the same, else a whole one."""
    return range(len(mine) // 2 + 1 if np.array_equal(mine, theirs) else len(mine))


def _pairs(mine: Shards, theirs: Shards, references: np.ndarray, d: int, step: int) -> PairListing:
    """Places (in its own shard, in the remote one) of the pairs that device d computes in a step."""
    v = (d + step) % len(mine)
    # two shards that also meet on device v: each device takes every second pair, counted from the lower shard
    twice = np.array_equal(mine, theirs) and step > 0 and 2 * step == len(mine)
    own, remote = ((int(shards[k, 0]), int(shards[k, 1])) for shards, k in ((mine, d), (theirs, v)))
    return pairs_of_shards(own, remote, references, (0 if d < v else 1) if twice else None)


def _chunk_size(lengths: list[int], batch: int, most: int) -> int:
    """One number of pairs a call, about `most` at most, that leaves the least to fill up."""
    largest = min(max(*lengths, 1), most)
    sizes = {whole_batches(size, batch) for size in range(largest, largest // 3, -1)}
    return min(sizes, key=lambda size: (sum(-(-length // size) for length in lengths) * size, -size))


def all_distances(
    normalised: Float[Array | np.ndarray, "k p c"],
    mesh: DeviceMesh,
    counts: tuple[int, ...],
    options: TileOptions,
    references: Int[np.ndarray, " m"],
    progress: Progress = lambda pairs: None,
    allocate: Allocate = in_memory,
) -> Float[np.ndarray, "r n m p"]:
    """`pairwise_distances` by a mesh of devices.

    Args:
        normalised: patch tokens of one layer of the images that this process holds.
        mesh: the devices of all processes; a single one takes the direct path.
        counts: images of each process, which follow one another.
        options: kernel, degrees, grid and precision.
        references: indices of the images that serve as references.
        progress: called as pairs are done.
        allocate: makes the table.

    Returns:
        The whole table, in every process, the same as on one device bit for bit.
    """
    if len(mesh) == 1:
        return pairwise_distances(normalised, options, references, progress, allocate)
    shards = shards_of(mesh, counts)
    n = int(shards[-1, 1])
    column = np.full(n, -1)
    column[references] = np.arange(len(references))
    distances = allocate((len(options.degrees), n, len(references), normalised.shape[1]))
    distances.fill(np.inf)
    offset = sum(counts[: jax.process_index()])
    run_ring(normalised, mesh, shards, options, references, partial(_keep, distances, column, mesh), progress, offset)
    return distances


def run_ring(
    normalised: Any,
    mesh: DeviceMesh,
    shards: Shards,
    options: TileOptions,
    references: Int[np.ndarray, " m"],
    keep: Keep,
    progress: Progress,
    offset: int = 0,
    most: int = CHUNK_TILES,
) -> None:
    """Lets every two shards meet, in parts where devices cannot hold them whole.

    Args:
        normalised, mesh, options, references, progress: see `all_distances`.
        shards: of all devices.
        keep: takes the distances.
        offset: number of the first image of this process.
        most: pairs of a device in one call.
    """
    _, p, c = normalised.shape
    longest, done = int((shards[:, 1] - shards[:, 0]).max()), 0

    def advance(pairs: int) -> None:
        nonlocal done
        done += pairs
        progress(pairs)

    learnt = parts_at_once(mesh, options)
    if room := min(processes.gather(device_bytes(mesh.local.devices))):
        fitting = int(DEVICE_SHARE * room / image_bytes(p * c, normalised.dtype.itemsize, options))
        learnt.parts = max(learnt.parts, -(-longest // max(1, fitting // SHARDS_AT_ONCE)))
    while True:
        parts, done = min(learnt.parts, max(longest, 1)), 0
        cut = [_part(shards, parts, part) for part in range(parts)]
        place = partial(_placed, mesh, normalised, offset, options)
        try:
            for a, mine in enumerate(cut):
                own = place(mine)
                for theirs in cut[a:]:
                    visiting = own if theirs is mine else place(theirs)
                    _meet_all(keep, mesh, options, references, (mine, own), (theirs, visiting), advance, most)
            return
        except jax.errors.JaxRuntimeError as error:
            # of several processes the others would wait for this one
            if not is_out_of_memory(error) or mesh.spans_processes:
                raise
            if parts >= longest:
                raise OutOfMemory(
                    f"a device has too little memory for the patches of three images; {ADVICE}"
                ) from error
        progress(-done)
        learnt.parts = 2 * parts
        logger.warning("a device is out of memory with its share of the patches; trying %d parts of it", learnt.parts)


@dataclass
class PartsAtOnce:
    """Into how many parts each device's shard is cut, as a device that ran out of memory has taught."""

    parts: int = 1


@lru_cache(maxsize=4)
def parts_at_once(mesh: DeviceMesh, options: TileOptions) -> PartsAtOnce:
    """Kept for the layers and categories that follow."""
    return PartsAtOnce()


def _meet_all(
    keep: Keep,
    mesh: DeviceMesh,
    options: TileOptions,
    references: Int[np.ndarray, " m"],
    staying: tuple[Shards, PatchSet],
    travelling: tuple[Shards, PatchSet],
    progress: Progress,
    most: int,
) -> None:
    """Computes the pairs of shards that stay with shards that travel, both directions of each."""
    (mine, own), (theirs, visiting) = staying, travelling
    arriving, at_step = visiting, 0
    waiting: tuple[Callable[[], None], int] | None = None
    last_step, in_chunks = _steps(mine, theirs)[-1], pair_chunks(options)

    def finish() -> None:
        # the next call is computed meanwhile
        if waiting:
            waiting[0]()
            progress(waiting[1])

    for ring_step in ring_steps(mine, theirs, references, options.batch, most):
        begins = ring_step.step > at_step or waiting is None
        if ring_step.step > at_step:
            visiting, at_step = arriving, ring_step.step
        pass_on = begins and ring_step.step < last_step
        passed: list[PatchSet] = []
        lower = mine[:, 0] <= np.roll(theirs[:, 0], -ring_step.step)
        meet = partial(_meet, mesh, options, own, visiting, ring_step, lower, pass_on, passed)
        if mesh.spans_processes:
            # the others are in the same call and would not come along
            rows, columns = meet(slice(None))
        else:
            rows, columns = in_chunks(meet, ring_step.own.shape[1], axis=1)
        if pass_on:
            arriving = passed[-1]
        kept = keep(ring_step, mine, theirs, rows, columns)
        finish()
        waiting = kept, int(ring_step.valid.sum())
    finish()


def shards_of(mesh: DeviceMesh, counts: tuple[int, ...]) -> Shards:
    """Which images each device holds: those of its process, evenly."""
    first_image = np.concatenate([[0], np.cumsum(counts)])
    bounds = [0]
    for process, count in enumerate(counts):
        devices = sum(d.process_index == process for d in mesh.devices) if len(counts) > 1 else len(mesh)
        bounds += [int(first_image[process] + b) for b in split(count, devices)[1:]]
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def _part(shards: Shards, parts: int, part: int) -> Shards:
    """One of so many parts of every shard."""
    length = shards[:, 1] - shards[:, 0]
    return shards[:, :1] + np.stack([part * length // parts, (part + 1) * length // parts], axis=1)


def _placed(mesh: DeviceMesh, normalised: Any, offset: int, options: TileOptions, shards: Shards) -> PatchSet:
    """Puts each device's images on it, padded with zeros to the longest shard, in the form that the kernel reads.

    Args:
        mesh, options: see `all_distances`.
        normalised: tokens of the images of this process, the first of which is number `offset`.
        offset: see above.
        shards: of all devices.
    """
    longest = max(1, int((shards[:, 1] - shards[:, 0]).max()))
    placed = []
    for device in mesh.local.devices:
        start, stop = shards[mesh.devices.index(device)] - offset
        shard = np.asarray(normalised[start:stop])
        placed.append(np.pad(shard, ((0, longest - len(shard)), (0, 0), (0, 0))))
    return _prepare(mesh, options)(mesh.place(placed))


def _meet(
    mesh: DeviceMesh,
    options: TileOptions,
    own: PatchSet,
    visiting: PatchSet,
    ring_step: RingStep,
    lower: Bool[np.ndarray, " d"],
    pass_on: bool,
    passed: list[PatchSet],
    part: slice,
) -> tuple[Array, Array]:
    """A part of one step of the ring; the first part also passes the visiting shard on, to `passed`."""
    some = RingStep(ring_step.step, ring_step.own[:, part], ring_step.remote[:, part], ring_step.valid[:, part])
    members = [mesh.devices.index(device) for device in mesh.local.devices]
    # one array for each device, since every copy takes its time
    sides = np.broadcast_to(lower[:, None], some.own.shape)
    inputs = mesh.place(list(np.stack([some.own, some.remote, sides], axis=1).astype(np.int32)[members]))
    fitting = options._replace(batch=min(options.batch, some.own.shape[1]))
    first = pass_on and not part.start
    rows, columns, arrived = _step(mesh, fitting, first)(own, visiting, inputs)
    if first:
        passed.append(arrived)
    return rows, columns


@lru_cache(maxsize=8)
def _prepare(mesh: DeviceMesh, options: TileOptions) -> Any:
    return mesh.spread(lambda shard: prepare(shard, options))


@lru_cache(maxsize=8)
def _step(mesh: DeviceMesh, options: TileOptions, pass_on: bool) -> Any:
    """One call on every device: pass the visiting shard on where asked, then compute pairs with it."""
    devices = len(mesh)
    # towards lower places, so that device d is visited by d + 1, d + 2, ...
    ring = [((d + 1) % devices, d) for d in range(devices)]

    def on_device(own: PatchSet, visiting: PatchSet, pairs: Int[Array, "3 b"]) -> tuple[Any, Any, Any]:
        # issued before the tiles and used after them, so that the transfer runs beside the work
        passed = jax.tree.map(lambda x: lax.ppermute(x, AXIS, ring), visiting) if pass_on else None
        mine, theirs, sides = pairs

        def visitor_on_the_right() -> tuple[Array, Array]:
            return pair_distances(own, visiting, mine, theirs, options)

        def visitor_on_the_left() -> tuple[Array, Array]:
            return pair_distances(visiting, own, theirs, mine, options)[::-1]

        # a product and its transpose differ in the last bits: the lower image is on the left, as on one device
        rows, columns = lax.cond(sides[0] > 0, visitor_on_the_right, visitor_on_the_left)
        if mesh.spans_processes:
            rows, columns = (lax.all_gather(x, AXIS) for x in (rows, columns))
        return rows, columns, passed

    return mesh.spread(on_device)


def _keep(
    distances: Float[np.ndarray, "r n m p"],
    column: Int[np.ndarray, " n"],
    mesh: DeviceMesh,
    ring_step: RingStep,
    mine: Shards,
    theirs: Shards,
    rows: Float[Array | np.ndarray, "d b r p"],
    columns: Float[Array | np.ndarray, "d b r p"],
) -> Callable[[], None]:
    """Copies distances to the table of the host when they are computed."""

    def copy() -> None:
        rows_here, columns_here = (_fetch(mesh, x) for x in (rows, columns))
        first, second = images_of(ring_step, mine, theirs)
        valid = ring_step.valid
        store(distances, column, first[valid], second[valid], rows_here[valid], columns_here[valid])

    return copy


def images_of(
    ring_step: RingStep, mine: Shards, theirs: Shards
) -> tuple[Int[np.ndarray, "d b"], Int[np.ndarray, "d b"]]:
    """Which images of the set a step compares: those of the device, and the remote ones."""
    remote = np.roll(theirs[:, :1], -ring_step.step, axis=0) + ring_step.remote
    return mine[:, :1] + ring_step.own, remote


def _fetch(mesh: DeviceMesh, results: Array | np.ndarray) -> np.ndarray:
    """Results of all devices [d, ...]; with several processes each device has gathered those of the others."""
    if isinstance(results, np.ndarray):
        return results
    if mesh.spans_processes:
        return np.asarray(results.addressable_shards[0].data)[0]
    return np.concatenate([np.asarray(shard.data) for shard in results.addressable_shards])
