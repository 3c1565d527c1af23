"""All pairs of images over several devices: rows stay, columns travel around a ring.

Each device holds a shard of the images. In step s it meets the shard of the device s places further on; after half a
turn every two shards have met, since one tile serves both directions. Where the number of devices is even, two shards
meet twice in the last step, once on either device, and each takes half of the pairs.

A pair is computed by the same function as on one device, with the image of lower index on the left, so the distances
are the same bit for bit, on any number of devices and processes. Chunks are padded to equal length; what is padding
appears in no pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegraph_jax.core.arrays import Allocate, in_memory
from codegraph_jax.core.progress import Progress
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.similarity.listing import PairListing, pairs_of_shards, split
from codegraph_jax.similarity.pairwise import CHUNK_TILES, pair_chunks, pairwise_distances, store, whole_batches
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, pair_distances, prepare


@dataclass(frozen=True)
class Meeting:
    """What every device does at once: pairs of one of its own images with one of the shard that visits it.

    Attributes:
        step: how many places the visiting shard has come.
        own, visitor: places of the images in the two shards [d, b]; where there is nothing to do, the first pair again.
        valid: which of them count [d, b].
    """

    step: int
    own: Int[np.ndarray, "d b"]
    visitor: Int[np.ndarray, "d b"]
    valid: Int[np.ndarray, "d b"]


def meetings(bounds: Int[np.ndarray, " d+1"], references: Int[np.ndarray, " m"], batch: int = 1) -> Iterator[Meeting]:
    """The schedule: each pair of images of which one is a reference, once, on one device.

    Args:
        bounds: device d holds the images bounds[d] ... bounds[d+1] - 1.
        references: indices of the images that serve as references.
        batch: pairs in one product.
    """
    devices = len(bounds) - 1
    steps = [
        [_pairs(bounds, references, d, (d + step) % devices, step) for d in range(devices)]
        for step in range(devices // 2 + 1)
    ]
    longest = [max(len(pairs) for pairs in lists) for lists in steps]
    size = _chunk_size(longest, batch)
    for step, (lists, length) in enumerate(zip(steps, longest)):
        # a step without work still passes the shards on
        for start in range(0, max(length, 1), size):
            own, visitor, valid = (np.zeros((devices, size), t) for t in (np.int32, np.int32, bool))
            for d, pairs in enumerate(lists):
                count = max(0, min(size, len(pairs) - start))
                own[d, :count], visitor[d, :count] = pairs.at(np.arange(start, start + count))
                valid[d, :count] = True
            yield Meeting(step, own, visitor, valid)


def _pairs(bounds: np.ndarray, references: np.ndarray, d: int, v: int, step: int) -> PairListing:
    """Places (in shard d, in shard v) of the pairs that device d computes when shard v visits it."""
    # two shards that also meet on device v: each device takes every second pair, counted from the lower shard
    twice = step > 0 and 2 * step == len(bounds) - 1
    return pairs_of_shards(bounds, references, d, v, (0 if d < v else 1) if twice else None)


def _chunk_size(lengths: list[int], batch: int) -> int:
    """One number of pairs a call, about `CHUNK_TILES` at most, that leaves the least to fill up."""
    largest = min(max(*lengths, 1), CHUNK_TILES)
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
    bounds = _shard_bounds(mesh, counts)
    n, p = int(bounds[-1]), normalised.shape[1]
    own = _local_shards(mesh, normalised, bounds, counts, options)
    visiting, arriving = own, own
    column = np.full(n, -1)
    column[references] = np.arange(len(references))
    distances = allocate((len(options.degrees), n, len(references), p))
    distances.fill(np.inf)

    last_step = len(mesh) // 2
    at_step, waiting = 0, None
    in_chunks = pair_chunks(options)
    for meeting in meetings(bounds, references, options.batch):
        begins = meeting.step > at_step or waiting is None
        if meeting.step > at_step:
            visiting, at_step = arriving, meeting.step
        pass_on = begins and meeting.step < last_step
        passed: list[PatchSet] = []
        meet = partial(_meet, mesh, options, own, visiting, meeting, pass_on, passed)
        if mesh.spans_processes:
            # the others are in the same call and would not come along
            rows, columns = meet(slice(None))
        else:
            rows, columns = in_chunks(meet, meeting.own.shape[1], axis=1)
        if pass_on:
            arriving = passed[-1]
        if waiting:
            _keep(distances, column, bounds, mesh, *waiting, progress)
        waiting = meeting, rows, columns
    if waiting:
        _keep(distances, column, bounds, mesh, *waiting, progress)
    return distances


def _shard_bounds(mesh: DeviceMesh, counts: tuple[int, ...]) -> Int[np.ndarray, " d+1"]:
    """Which images each device holds: those of its process, evenly."""
    first_image = np.concatenate([[0], np.cumsum(counts)])
    bounds = [0]
    for process, count in enumerate(counts):
        devices = sum(d.process_index == process for d in mesh.devices) if len(counts) > 1 else len(mesh)
        bounds += [int(first_image[process] + b) for b in split(count, devices)[1:]]
    return np.array(bounds)


def _local_shards(
    mesh: DeviceMesh, normalised: Any, bounds: Int[np.ndarray, " d+1"], counts: tuple[int, ...], options: TileOptions
) -> PatchSet:
    """Puts each device's images on it, padded with zeros to the longest shard, in the form that the kernel reads."""
    longest = int(np.diff(bounds).max())
    offset = sum(counts[: jax.process_index()])
    shards = []
    for device in mesh.local.devices:
        d = mesh.devices.index(device)
        shard = np.asarray(normalised[bounds[d] - offset : bounds[d + 1] - offset])
        shards.append(np.pad(shard, ((0, longest - len(shard)), (0, 0), (0, 0))))
    return _prepare(mesh, options)(mesh.place(shards))


def _meet(
    mesh: DeviceMesh,
    options: TileOptions,
    own: PatchSet,
    visiting: PatchSet,
    meeting: Meeting,
    pass_on: bool,
    passed: list[PatchSet],
    part: slice,
) -> tuple[Array, Array]:
    """A part of what a meeting asks for; the first part also passes the visiting shard on, to `passed`."""
    some = Meeting(meeting.step, meeting.own[:, part], meeting.visitor[:, part], meeting.valid[:, part])
    inputs = mesh.place([_device_inputs(mesh, some, d) for d in mesh.local.devices])
    fitting = options._replace(batch=min(options.batch, some.own.shape[1]))
    first = pass_on and not part.start
    rows, columns, arrived = _step(mesh, fitting, first)(own, visiting, inputs)
    if first:
        passed.append(arrived)
    return rows, columns


def _device_inputs(mesh: DeviceMesh, meeting: Meeting, device: jax.Device) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d = mesh.devices.index(device)
    lower = d <= (d + meeting.step) % len(mesh)
    return meeting.own[d], meeting.visitor[d], np.array(lower)


@lru_cache(maxsize=8)
def _prepare(mesh: DeviceMesh, options: TileOptions) -> Any:
    return mesh.spread(lambda shard: prepare(shard, options))


@lru_cache(maxsize=8)
def _step(mesh: DeviceMesh, options: TileOptions, pass_on: bool) -> Any:
    """One call on every device: pass the visiting shard on where asked, then compute pairs with it."""
    devices = len(mesh)
    # towards lower places, so that device d is visited by d + 1, d + 2, ...
    ring = [((d + 1) % devices, d) for d in range(devices)]

    def on_device(own: PatchSet, visiting: PatchSet, pairs: tuple[Array, Array, Array]) -> tuple[Any, Any, Any]:
        # issued before the tiles and used after them, so that the transfer runs beside the work
        passed = jax.tree.map(lambda x: lax.ppermute(x, AXIS, ring), visiting) if pass_on else None
        mine, theirs, lower = pairs

        def visitor_on_the_right() -> tuple[Array, Array]:
            return pair_distances(own, visiting, mine, theirs, options)

        def visitor_on_the_left() -> tuple[Array, Array]:
            return pair_distances(visiting, own, theirs, mine, options)[::-1]

        # a product and its transpose differ in the last bits: the lower image is on the left, as on one device
        rows, columns = lax.cond(lower, visitor_on_the_right, visitor_on_the_left)
        if mesh.spans_processes:
            rows, columns = (lax.all_gather(x, AXIS) for x in (rows, columns))
        return rows, columns, passed

    return mesh.spread(on_device)


def _keep(
    distances: Float[np.ndarray, "r n m p"],
    column: Int[np.ndarray, " n"],
    bounds: Int[np.ndarray, " d+1"],
    mesh: DeviceMesh,
    meeting: Meeting,
    rows: Float[Array | np.ndarray, "d b r p"],
    columns: Float[Array | np.ndarray, "d b r p"],
    progress: Progress,
) -> None:
    """Waits for a call and copies its distances to their places. The next call is computed meanwhile."""
    rows_here, columns_here = (_fetch(mesh, x) for x in (rows, columns))
    start = bounds[:-1]
    first = start[:, None] + meeting.own
    second = np.roll(start, -meeting.step)[:, None] + meeting.visitor
    valid = meeting.valid
    store(distances, column, first[valid], second[valid], rows_here[valid], columns_here[valid])
    progress(int(valid.sum()))


def _fetch(mesh: DeviceMesh, results: Array | np.ndarray) -> np.ndarray:
    """Results of all devices [d, ...]; with several processes each device has gathered those of the others."""
    if isinstance(results, np.ndarray):
        return results
    if mesh.spans_processes:
        return np.asarray(results.addressable_shards[0].data)[0]
    return np.concatenate([np.asarray(shard.data) for shard in results.addressable_shards])
