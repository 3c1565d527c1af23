"""Schedule of the ring (`codegraph_jax.similarity.ring`): the pairs of images that each device compares in a call."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.distributed.devices import DeviceMesh

PAIRS_PER_CALL = 96
"""Pairs of a device in one call: enough to hide its overhead of 0.4 ms, few enough for the progress bar to move."""

Shards = Int[np.ndarray, "d 2"]
"""Consecutive ranges (start, stop) of the images that each device holds."""


def shard_bounds(n: int, pieces: int) -> Int[np.ndarray, " ends"]:
    """Bounds of `pieces` contiguous shards of n images; their sizes differ by at most one."""
    return np.arange(pieces + 1) * n // pieces


def pairs_of_shards(
    own: tuple[int, int], remote: tuple[int, int], references: Int[np.ndarray, " m"], parity: int | None
) -> Int[np.ndarray, "2 b"]:
    """Pairs of images of two shards, or of one shard with itself, at least one of them a reference.

    Shards are ranges (start, stop); the pairs contain indices in their shards. With a parity, only pairs (i, j) with
    (i + j) % 2 == parity are listed.
    """
    rows, partners = np.arange(*own), np.arange(*remote)
    is_reference = np.isin(rows, references)
    all_pairs = []
    # references with all images, other images with references: this takes no more memory than the pairs
    for some, others in ((is_reference, partners), (~is_reference, partners[np.isin(partners, references)])):
        first, second = np.meshgrid(rows[some] - own[0], others - remote[0], indexing="ij")
        pairs = np.stack([first.ravel(), second.ravel()]).astype(np.int32)
        if own == remote:
            pairs = pairs[:, pairs[0] < pairs[1]]
        elif parity is not None:
            pairs = pairs[:, pairs.sum(axis=0) % 2 == parity]
        all_pairs.append(pairs)
    return np.concatenate(all_pairs, axis=1)


@dataclass(frozen=True)
class RingCall:
    """The pairs of one call: on each device, pairs of an image of its own shard with an image of the remote shard.

    Attributes:
        step: number of places that the remote shards have moved around the ring.
        own_start: first image of the own shard.
        remote_start: first image of the remote shard.
        own_indices: index in the own shard of one image of each pair.
        remote_indices: index in the remote shard of the other one.
        valid: false for padding.
    """

    step: int
    own_start: Int[np.ndarray, "d 1"]
    remote_start: Int[np.ndarray, "d 1"]
    own_indices: Int[np.ndarray, "d b"]
    remote_indices: Int[np.ndarray, "d b"]
    valid: Bool[np.ndarray, "d b"]

    @property
    def images(self) -> tuple[Int[np.ndarray, "d b"], Int[np.ndarray, "d b"]]:
        """Indices in the set of the own and of the remote images."""
        return self.own_start + self.own_indices, self.remote_start + self.remote_indices

    def columns(self, column_of: Int[np.ndarray, " n"], images: Int[np.ndarray, "d b"]) -> Int[np.ndarray, "d b"]:
        """Table columns of own or remote images, from `reference_columns`; -1 for padding and if not a reference."""
        # padding of an empty shard may have an index beyond the last image
        return np.where(self.valid, column_of.take(images, mode="clip"), -1)


def ring_calls(
    own_shards: Shards,
    remote_shards: Shards,
    references: Int[np.ndarray, " m"],
    pairs_per_product: int,
    pairs_per_call: int,
    same_size: bool,
) -> Iterator[RingCall]:
    """Yields the calls; together they have each pair of images with at least one reference once, on one device.

    The own shards stay on their devices, and the remote ones, the same or others, move around the ring. Calls have at
    most `pairs_per_call` pairs of a device: all of this size, or else of the size with the least padding.
    """
    devices = len(own_shards)
    steps = [
        [_pairs(own_shards, remote_shards, references, d, step) for d in range(devices)]
        for step in turn(own_shards, remote_shards)
    ]
    pair_counts = [max(pairs.shape[1] for pairs in pairs_of_devices) for pairs_of_devices in steps]
    if same_size:
        size = whole_products(pairs_per_call, pairs_per_product)
    else:
        size = _call_size(pair_counts, pairs_per_product, pairs_per_call)
    for step, (pairs_of_devices, length) in enumerate(zip(steps, pair_counts)):
        remote_start = np.roll(remote_shards[:, :1], -step, axis=0)
        # a step without pairs still moves the shards
        for start in range(0, max(length, 1), size):
            own, remote, valid = (np.zeros((devices, size), t) for t in (np.int32, np.int32, bool))
            for d, pairs in enumerate(pairs_of_devices):
                pairs_of_call = pairs[:, start : start + size]
                count = pairs_of_call.shape[1]
                own[d, :count], remote[d, :count] = pairs_of_call
                valid[d, :count] = True
            yield RingCall(step, own_shards[:, :1], remote_start, own, remote, valid)


def turn(own_shards: Shards, remote_shards: Shards) -> range:
    """The steps of half a turn of the ring if both sides have the same shards, else of a whole turn."""
    devices = len(own_shards)
    return range(devices // 2 + 1 if np.array_equal(own_shards, remote_shards) else devices)


def _pairs(
    own_shards: Shards, remote_shards: Shards, references: np.ndarray, d: int, step: int
) -> Int[np.ndarray, "2 b"]:
    """The pairs that device d computes in a step, as indices in its own shard and in the remote shard."""
    devices = len(own_shards)
    remote = (d + step) % devices
    # the remote device has the same two shards in this step: each device takes every second pair
    both_compare = np.array_equal(own_shards, remote_shards) and step > 0 and 2 * step == devices
    parity = (0 if d < remote else 1) if both_compare else None
    return pairs_of_shards(tuple(own_shards[d].tolist()), tuple(remote_shards[remote].tolist()), references, parity)


def _call_size(lengths: list[int], pairs_per_product: int, pairs_per_call: int) -> int:
    """The number of pairs in a call, at most about `pairs_per_call`, that needs the least padding."""
    largest = min(max(*lengths, 1), pairs_per_call)
    sizes = {whole_products(size, pairs_per_product) for size in range(largest, largest // 3, -1)}
    return min(sizes, key=lambda size: (sum(-(-length // size) for length in lengths) * size, -size))


def whole_products(pairs: int, pairs_per_product: int) -> int:
    """`pairs` rounded up to whole products, since a smaller product might round its sums differently."""
    return -(-pairs // pairs_per_product) * pairs_per_product


def shards_of(mesh: DeviceMesh, images_per_process: tuple[int, ...]) -> Shards:
    """The shards of all devices; each process divides its images evenly among its devices."""
    first_image = np.concatenate([[0], np.cumsum(images_per_process)])
    bounds = [0]
    for process, count in enumerate(images_per_process):
        devices = sum(d.process_index == process for d in mesh.devices) if len(images_per_process) > 1 else len(mesh)
        bounds += [int(first_image[process] + b) for b in shard_bounds(count, devices)[1:]]
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def piece_of(shards: Shards, pieces: int, piece: int) -> Shards:
    """Piece number `piece` of every shard, of `pieces` equal ones."""
    length = shards[:, 1] - shards[:, 0]
    return shards[:, :1] + np.stack([piece * length // pieces, (piece + 1) * length // pieces], axis=1)
