"""Which pairs of images every device compares, and when: the schedule of the ring (`codegraph_jax.similarity.ring`)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.similarity.listing import PairListing, pairs_of_shards, split

PAIRS = 96
"""Pairs of a device in one call: enough to hide its 0.4 ms, few enough for the progress bar to move."""

Shards = Int[np.ndarray, "d 2"]
"""The images that each device holds, from the first to before the second; they follow one another."""


@dataclass(frozen=True)
class RingStep:
    """What every device does in one call: pairs of one of its own images with one of the shard that visits it.

    Attributes:
        step: how many places the visiting shard has come.
        own, remote: places of the images in the two shards [d, b]; where there is nothing to do, the first pair again.
        valid: which of them count [d, b].
    """

    step: int
    own: Int[np.ndarray, "d b"]
    remote: Int[np.ndarray, "d b"]
    valid: Int[np.ndarray, "d b"]

    def images(self, mine: Shards, theirs: Shards) -> tuple[Int[np.ndarray, "d b"], Int[np.ndarray, "d b"]]:
        """Which images of the set are compared: those of the device, and those of its visitor."""
        return mine[:, :1] + self.own, np.roll(theirs[:, :1], -self.step, axis=0) + self.remote

    def columns(self, column: Int[np.ndarray, " n"], images: Int[np.ndarray, "d b"]) -> Int[np.ndarray, "d b"]:
        """Columns of a table that distances to these images belong to; -1 for what is no reference and for padding.

        Args:
            column: for each image its place among the references, -1 where it is none.
            images: one of the two that `images` returns.
        """
        # padding of an empty shard may lie behind the last image
        return np.where(self.valid, column.take(images, mode="clip"), -1)


def ring_steps(
    mine: Shards,
    theirs: Shards,
    references: Int[np.ndarray, " m"],
    batch: int = 1,
    pairs: int = PAIRS,
    same_size: bool = False,
) -> Iterator[RingStep]:
    """The schedule: each pair of images of which one is a reference, once, on one device.

    Args:
        mine: shards that stay.
        theirs: shards that travel, the same or others.
        references: indices of the images that serve as references.
        batch: pairs in one product.
        pairs: of a device in one call, at most.
        same_size: all calls have exactly so many, whatever the set; else as many as leave the least to fill up.
    """
    devices = len(mine)
    steps = [[_pairs(mine, theirs, references, d, step) for d in range(devices)] for step in turn(mine, theirs)]
    longest = [max(len(listing) for listing in listings) for listings in steps]
    size = whole_batches(pairs, batch) if same_size else _call_size(longest, batch, pairs)
    for step, (listings, length) in enumerate(zip(steps, longest)):
        # a step without work still passes the shards on
        for start in range(0, max(length, 1), size):
            own, remote, valid = (np.zeros((devices, size), t) for t in (np.int32, np.int32, bool))
            for d, listing in enumerate(listings):
                count = max(0, min(size, len(listing) - start))
                own[d, :count], remote[d, :count] = listing.at(np.arange(start, start + count))
                valid[d, :count] = True
            yield RingStep(step, own, remote, valid)


def turn(mine: Shards, theirs: Shards) -> range:
    """Half a turn of the ring where the shards are the same, else a whole one."""
    return range(len(mine) // 2 + 1 if np.array_equal(mine, theirs) else len(mine))


def _pairs(mine: Shards, theirs: Shards, references: np.ndarray, d: int, step: int) -> PairListing:
    """Places (in its own shard, in the remote one) of the pairs that device d computes in a step."""
    v = (d + step) % len(mine)
    # two shards that also meet on device v: each device takes every second pair, counted from the lower shard
    twice = np.array_equal(mine, theirs) and step > 0 and 2 * step == len(mine)
    own, remote = ((int(shards[k, 0]), int(shards[k, 1])) for shards, k in ((mine, d), (theirs, v)))
    return pairs_of_shards(own, remote, references, (0 if d < v else 1) if twice else None)


def _call_size(lengths: list[int], batch: int, pairs: int) -> int:
    """One number of pairs a call, about `pairs` at most, that leaves the least to fill up."""
    largest = min(max(*lengths, 1), pairs)
    sizes = {whole_batches(size, batch) for size in range(largest, largest // 3, -1)}
    return min(sizes, key=lambda size: (sum(-(-length // size) for length in lengths) * size, -size))


def whole_batches(pairs: int, batch: int) -> int:
    """`pairs`, rounded up so that no product has fewer pairs than the others: it might round its sums otherwise."""
    return -(-pairs // batch) * batch


def shards_of(mesh: DeviceMesh, counts: tuple[int, ...]) -> Shards:
    """Which images each device holds: those of its process, evenly."""
    first_image = np.concatenate([[0], np.cumsum(counts)])
    bounds = [0]
    for process, count in enumerate(counts):
        devices = sum(d.process_index == process for d in mesh.devices) if len(counts) > 1 else len(mesh)
        bounds += [int(first_image[process] + b) for b in split(count, devices)[1:]]
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def part_of(shards: Shards, parts: int, part: int) -> Shards:
    """One of so many parts of every shard."""
    length = shards[:, 1] - shards[:, 0]
    return shards[:, :1] + np.stack([part * length // parts, (part + 1) * length // parts], axis=1)
