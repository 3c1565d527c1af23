"""All pairs of images over the devices: rows stay, columns travel around a ring. One device is a ring of one.

Each device holds a shard of the images. In step s it meets the shard of the device s places further on; after half a
turn every two shards have met, since one product of two images serves both directions. Where the number of devices is
even, two shards meet twice in the last step, once on either device, and each takes half of the pairs.

Where devices cannot hold the shards that they need at once, every shard is cut into parts: part a of all devices meets
part a in half a turn, and part b in a whole one.

A pair is computed by the same function everywhere, with the image of lower index on the left, so the distances are the
same bit for bit, on any number of devices and processes and in any number of parts. Calls are padded to equal length;
what is padding is written nowhere.
"""

import logging
from collections.abc import Callable
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
from codegraph_jax.distributed.chunks import OutOfMemoryError, is_out_of_memory
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.features.on_device import host_rows, rows_on
from codegraph_jax.similarity.pairwise import reference_columns
from codegraph_jax.similarity.schedule import PAIRS, RingStep, Shards, part_of, ring_steps, shards_of, turn
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, pair_distances, prepare

logger = logging.getLogger(__name__)

DEVICE_SHARE = 0.7
"""The part of a device's memory that the patches of a layer may take."""

ADVICE = "a smaller config.backbone.image_size, fewer images, or more devices may fit"

Keep = Callable[[RingStep, Shards, Shards, Float[Array, "d b r p"], Float[Array, "d b r p"]], Callable[[], None]]
"""Begins to write the distances of one call, both ways, to their places; what it returns waits for that. It may be
given those of a pair again after a device has run out of memory."""


def shards_at_once(devices: int) -> int:
    """Shards on a device: its own, the one that visits it, and the one that arrives; a single device sends none."""
    return 3 if devices > 1 else 2


def image_bytes(numbers: int, itemsize: int, options: TileOptions) -> int:
    """Bytes of an image's tokens on a device, while they are made.

    Args:
        numbers: of an image's tokens.
        itemsize: bytes of such a number as it comes.
        options: say what the kernel keeps of it.
    """
    kept = (1 if options.kernel == "reuse" else len(options.degrees)) * (2 if options.precision == "bfloat16" else 4)
    # they exist in float32 beside what is given and what is kept
    return numbers * (itemsize + 4 + kept)


class Ring:
    """The devices that compare all images, and how much of a layer they take at once.

    Attributes:
        images: of how many images a device holds the patches at once; 0: of all that it has.
        pairs: of a device in one call, at most; 0: as many as are asked for.
    """

    def __init__(self, mesh: DeviceMesh, options: TileOptions):
        self.mesh, self.options = mesh, options
        self.images = self.pairs = self._asked = 0

    def run(
        self,
        tokens: Any,
        shards: Shards,
        references: Int[np.ndarray, " m"],
        keep: Keep,
        progress: Progress,
        first: int = 0,
        rows: int = 0,
        pairs: int = PAIRS,
        retry: bool = True,
    ) -> None:
        """Lets every two shards meet, in parts where devices cannot hold them whole.

        Args:
            tokens: normalised patch tokens of one layer, of the images of this process [k, p, c].
            shards: of all devices.
            references: indices of the images that serve as references.
            keep: takes the distances.
            progress: called as pairs are done.
            first: number of the first image of this process.
            rows: arrays of whole shards are padded to so many images, and calls to `pairs`, so that sets of other
                sizes share their programs; 0: nothing is padded beyond need.
            pairs: of a device in one call, at most.
            retry: a device that runs out of memory gets fewer pairs, then fewer images at once; else the error is
                raised as it comes.

        Raises:
            OutOfMemoryError: a device cannot hold the patches of so few images, or the distances of one pair.
        """
        _, p, c = tokens.shape
        longest, done = max(1, int((shards[:, 1] - shards[:, 0]).max())), 0

        def advance(pairs: int) -> None:
            nonlocal done
            done += pairs
            progress(pairs)

        fitting = self._fitting(longest, image_bytes(p * c, tokens.dtype.itemsize, self.options))
        while True:
            held = min(self.images or longest, fitting)
            parts, calls, done = -(-longest // held), min(pairs, self.pairs or pairs), 0
            cut = [part_of(shards, parts, part) for part in range(parts)]
            size = rows if rows and parts == 1 else max(1, max(int((part[:, 1] - part[:, 0]).max()) for part in cut))
            try:
                # in a function of its own, so that a failed attempt leaves nothing on the devices
                place = partial(self._placed, tokens, first, size)
                self._compare(cut, place, references, keep, advance, calls, rows > 0)
                return
            except jax.errors.JaxRuntimeError as error:
                # of several processes the others would wait for this one
                if not (retry and is_out_of_memory(error)) or self.mesh.spans_processes:
                    raise
                if self._asked > 1:
                    self.pairs, much = -(-self._asked // 2), "a device is out of memory with %d pairs of images at once"
                    logger.warning(f"{much}; trying fewer", self._asked)
                else:
                    self._hold_fewer(longest, parts, error)
            progress(-done)

    def _fitting(self, longest: int, image: int) -> int:
        """Of how many images the patches should fit at once, where devices tell what they have; else `longest`.

        Args:
            longest: images of the longest shard.
            image: bytes of one.
        """
        devices, room = len(self.mesh), min(processes.gather(device_bytes(self.mesh.local.devices)))
        fitting = int(DEVICE_SHARE * room / image)
        # what is alone on its device exists once
        if not room or longest <= fitting // (1 if devices == 1 else shards_at_once(devices)):
            return longest
        return max(1, fitting // shards_at_once(devices))

    def _hold_fewer(self, longest: int, parts: int, error: Exception) -> None:
        """Halves the parts that every shard is cut into.

        Raises:
            OutOfMemoryError: they are single images.
        """
        if parts >= longest:
            raise OutOfMemoryError(f"a device has too little memory for the patches of two images; {ADVICE}") from error
        # the calls may have been too large for the patches beside them
        held, self.images, self.pairs = -(-longest // parts), -(-longest // min(2 * parts, longest)), 0
        logger.warning("a device is out of memory with the patches of %d images; trying parts of %d", held, self.images)

    def _placed(self, tokens: Any, first: int, rows: int, shards: Shards) -> PatchSet:
        """Puts each device's images on it, in so many rows, in the form that the kernel reads.

        Args:
            tokens, first: see `run`.
            rows: that each device gets; those without an image are anything.
            shards: of all devices.
        """
        local, prepare_shards = self.mesh.local.devices, _prepare(self.mesh, self.options)
        own = [slice(*(shards[self.mesh.devices.index(device)] - first).tolist()) for device in local]
        if len(self.mesh) == 1:
            return prepare_shards(rows_on(local[0], tokens, own[0], rows))
        return prepare_shards(self.mesh.place([host_rows(tokens, images, rows) for images in own]))

    def _compare(
        self,
        cut: list[Shards],
        place: Callable[[Shards], PatchSet],
        references: Int[np.ndarray, " m"],
        keep: Keep,
        progress: Progress,
        pairs: int,
        same_size: bool,
    ) -> None:
        """Lets every two parts of the shards meet, those that stay and those that travel.

        Args:
            cut: the parts.
            place: brings one to the devices.
            references, keep, progress, pairs: see `run`.
            same_size: see `ring_steps`.
        """
        for a, mine in enumerate(cut):
            self._asked = 0
            own = place(mine)
            for theirs in cut[a:]:
                self._asked = 0
                visiting = own if theirs is mine else place(theirs)
                self._meet((mine, own), (theirs, visiting), references, keep, progress, pairs, same_size)
                del visiting
            del own

    def _meet(
        self,
        staying: tuple[Shards, PatchSet],
        travelling: tuple[Shards, PatchSet],
        references: Int[np.ndarray, " m"],
        keep: Keep,
        progress: Progress,
        pairs: int,
        same_size: bool,
    ) -> None:
        """Computes the pairs of shards that stay with shards that travel, both directions of each."""
        (mine, own), (theirs, visiting) = staying, travelling
        arriving, at_step = visiting, 0
        waiting: tuple[Callable[[], None], int] | None = None
        last_step, batch = turn(mine, theirs)[-1], min(self.options.batch, pairs)
        for ring_step in ring_steps(mine, theirs, references, batch, pairs, same_size):
            begins = ring_step.step > at_step or waiting is None
            if ring_step.step > at_step:
                visiting, at_step = arriving, ring_step.step
            pass_on = begins and ring_step.step < last_step
            self._asked = ring_step.own.shape[1]
            fitting = self.options._replace(batch=batch)
            given = self._given(ring_step, mine[:, 0] <= np.roll(theirs[:, 0], -ring_step.step))
            rows, columns, passed = _step(self.mesh, fitting, pass_on)(own, visiting, given)
            arriving = passed if pass_on else arriving
            kept = keep(ring_step, mine, theirs, rows, columns)
            # this call is computed while the one before it is waited for
            if waiting:
                waiting[0]()
                progress(waiting[1])
            waiting = kept, int(ring_step.valid.sum())
        if waiting:
            waiting[0]()
            progress(waiting[1])

    def _given(self, ring_step: RingStep, lower: Bool[np.ndarray, " d"]) -> Int[Array, "d 3 b"]:
        """What each device is told of a call, as one array, since every copy takes its time.

        Args:
            ring_step: the call.
            lower: where the device's own images come before its visitor's.
        """
        sides = np.broadcast_to(lower[:, None], ring_step.own.shape)
        given = np.stack([ring_step.own, ring_step.remote, sides], axis=1).astype(np.int32)
        placed: Int[Array, "d 3 b"] = self.mesh.place(
            [given[self.mesh.devices.index(device)] for device in self.mesh.local.devices]
        )
        return placed


@lru_cache(maxsize=64)
def ring_of(mesh: DeviceMesh, options: TileOptions) -> Ring:
    """Kept, so that sizes that fit on a device are not tried again for every layer and category."""
    return Ring(mesh, options)


def pairwise_distances(
    normalised: Float[Array | np.ndarray, "k p c"],
    options: TileOptions,
    references: Int[np.ndarray, " m"],
    progress: Progress = lambda pairs: None,
    allocate: Allocate = in_memory,
    mesh: DeviceMesh | None = None,
    counts: tuple[int, ...] = (),
) -> Float[np.ndarray, "r n m p"]:
    """Distance of every patch of every image to every reference image, for each degree, of one layer.

    Args:
        normalised: patch tokens of one layer of the images that this process holds, see `features.normalise`.
        options: kernel, degrees, grid and precision.
        references: indices of the images that serve as references.
        progress: called as pairs are done.
        allocate: makes the table.
        mesh: the devices of all processes; None: the first one.
        counts: images of each process, which follow one another; where there are several.

    Raises:
        OutOfMemoryError: see `Ring.run`.

    Returns:
        float32 distances in [0, 2] on the host, the whole table in every process; infinite where the reference is the
        image itself.
    """
    mesh, counts = mesh or DeviceMesh(tuple(jax.local_devices()[:1])), counts or (len(normalised),)
    column = reference_columns(sum(counts), references)
    distances = allocate((len(options.degrees), sum(counts), len(references), normalised.shape[1]))
    distances.fill(np.inf)

    def keep(
        ring_step: RingStep, mine: Shards, theirs: Shards, rows: Float[Array, "d b r p"], columns: Array
    ) -> Callable[[], None]:
        def copy() -> None:
            first, second = ring_step.images(mine, theirs)
            for i, j, side in ((first, second, rows), (second, first, columns)):
                to = ring_step.columns(column, j)
                distances[:, i[to >= 0], to[to >= 0]] = _fetch(mesh, side)[to >= 0].swapaxes(0, 1)

        return copy

    first = sum(counts[: jax.process_index()])
    ring_of(mesh, options).run(normalised, shards_of(mesh, counts), references, keep, progress, first)
    return distances


def _fetch(mesh: DeviceMesh, results: Array) -> Float[np.ndarray, "d b r p"]:
    """Results of all devices; with several processes each device has gathered those of the others."""
    if mesh.spans_processes:
        return np.asarray(results.addressable_shards[0].data)[0]
    parts = [np.asarray(shard.data) for shard in results.addressable_shards]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=64)
def _prepare(mesh: DeviceMesh, options: TileOptions) -> Callable[[Array], PatchSet]:
    """From the tokens of each device's images to what the kernel reads, with a device axis."""
    if len(mesh) == 1:
        # tokens that are there already are not copied for the sake of the axis
        return jax.jit(lambda tokens: jax.tree.map(lambda x: x[None], prepare(tokens, options)))
    return mesh.spread(lambda tokens: prepare(tokens, options))


@lru_cache(maxsize=64)
def _step(mesh: DeviceMesh, options: TileOptions, pass_on: bool) -> Any:
    """One call on every device: pass the visiting shard on where asked, then compute pairs with it."""
    devices = len(mesh)
    # towards lower places, so that device d is visited by d + 1, d + 2, ...
    ring = [((d + 1) % devices, d) for d in range(devices)]

    def on_device(own: PatchSet, visiting: PatchSet, given: Int[Array, "3 b"]) -> tuple[Any, Any, Any]:
        # issued before the pairs and used after them, so that the transfer runs beside the work
        passed = jax.tree.map(lambda x: lax.ppermute(x, AXIS, ring), visiting) if pass_on else None
        mine, theirs, sides = given

        def visitor_on_the_right() -> tuple[Array, Array]:
            return pair_distances(own, visiting, mine, theirs, options)

        def visitor_on_the_left() -> tuple[Array, Array]:
            return pair_distances(visiting, own, theirs, mine, options)[::-1]

        # a product and its transpose differ in the last bits: the lower image is on the left
        on_the_right = visitor_on_the_right() if devices == 1 else None
        rows, columns = on_the_right or lax.cond(sides[0] > 0, visitor_on_the_right, visitor_on_the_left)
        if mesh.spans_processes:
            rows, columns = (lax.all_gather(x, AXIS) for x in (rows, columns))
        return rows, columns, passed

    return mesh.spread(on_device)
