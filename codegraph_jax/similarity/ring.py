"""Compares all pairs of images on several devices, which pass shards of images around a ring.

Each device holds a shard of the images, which it compares in step s with the shard of the device s places further on.
After half a turn all pairs of shards are compared, since one product of two images gives both directions. If the number
of devices is even, two devices have the same two shards in the last step, and each computes half of the pairs.

If devices cannot hold the shards that they need at once, every shard is cut into pieces: the first pieces of all
devices are compared with each other in half a turn, and with the second pieces in a whole turn.

A pair is always computed by the same function, with the image of lower index on the left, so that the distances are
bit-identical for any number of devices, processes and pieces. Calls are padded to equal length.
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
from codegraph_jax.core.progress import Progress, UndoableProgress
from codegraph_jax.distributed import processes
from codegraph_jax.distributed.chunks import OutOfMemoryError, is_out_of_memory
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.features.on_device import tokens_on_device, tokens_on_host
from codegraph_jax.similarity.references import reference_columns
from codegraph_jax.similarity.schedule import PAIRS, RingStep, Shards, piece_of, ring_steps, shards_of, turn
from codegraph_jax.similarity.tiles import DistanceOptions, PatchSet, pair_distances, prepare

logger = logging.getLogger(__name__)

DEVICE_SHARE = 0.7
"""Share of a device's memory for the patches of a layer."""

ADVICE = "a smaller input size, fewer photos, or more devices may fit"

Writer = Callable[[RingStep, Shards, Shards, Float[Array, "d b r p"], Float[Array, "d b r p"]], Callable[[], None]]
"""Starts to store the distances of one call, in both directions; returns a function that waits until they are stored.
After a device has run out of memory it may be called with the same pairs again."""


def shards_at_once(device_count: int) -> int:
    """Number of shards on a device: its own, the remote one, and the next one; a single device receives none."""
    return 3 if device_count > 1 else 2


def image_bytes(numbers: int, itemsize: int, options: DistanceOptions) -> int:
    """Peak memory of an image's tokens on a device, in bytes, while they are prepared.

    The tokens are `numbers` values of `itemsize` bytes each.
    """
    prepared = 1 if options.kernel == "reuse" else len(options.degrees)
    # a float32 copy exists beside input and result
    return numbers * (itemsize + 4 + prepared * (2 if options.precision == "bfloat16" else 4))


class Ring:
    """The devices that compare all images, with limits that are lowered when a device runs out of memory.

    Attributes:
        max_images: maximum number of images in a piece of a shard; 0: no limit.
        max_pairs: maximum number of pairs of a device in one call; 0: no limit.
    """

    def __init__(self, mesh: DeviceMesh, options: DistanceOptions):
        self.mesh, self.options = mesh, options
        self.max_images = self.max_pairs = self._last_pairs = 0

    def run(
        self,
        tokens: Any,
        shards: Shards,
        references: Int[np.ndarray, " m"],
        write_distances: Writer,
        advance: Progress,
        device_length: int = 0,
        pairs: int = PAIRS,
    ) -> None:
        """Compares all pairs of shards of one layer, in pieces if devices cannot hold whole shards.

        `tokens` are those of the images of this process; `write_distances` stores the distances of a call, and
        `advance` is called with the number of finished pairs. If `device_length` is given, whole shards are padded to
        that many images and calls to `pairs`, so that sets of different sizes share their programs. Otherwise there is
        as little padding as possible, and a device that runs out of memory gets fewer pairs, then fewer images at once.

        Raises:
            OutOfMemoryError: a device has too little memory for two images.
        """
        _, p, c = tokens.shape
        longest, counted = max(1, int((shards[:, 1] - shards[:, 0]).max())), UndoableProgress(advance)
        first = int(shards[[self.mesh.devices.index(device) for device in self.mesh.local.devices], 0].min())
        fitting = self._fitting_images(longest, image_bytes(p * c, tokens.dtype.itemsize, self.options))
        while True:
            held = min(self.max_images or longest, fitting)
            pieces, calls = -(-longest // held), min(pairs, self.max_pairs or pairs)
            cut = [piece_of(shards, pieces, piece) for piece in range(pieces)]
            lengths = [int((piece[:, 1] - piece[:, 0]).max()) for piece in cut]
            size = device_length if device_length and pieces == 1 else max(1, *lengths)
            put = partial(self._put, tokens, first, size)
            compare = partial(self._compare_shards, references, write_distances, counted, calls, device_length > 0)
            try:
                # in a separate function, so that the memory of a failed attempt is freed
                self._compare(cut, put, compare)
                return
            except jax.errors.JaxRuntimeError as error:
                # other processes would wait for this one
                if device_length or not is_out_of_memory(error) or self.mesh.spans_processes:
                    raise
                if self._last_pairs > 1:
                    self.max_pairs = -(-self._last_pairs // 2)
                    logger.warning(
                        "a device is out of memory with %d pairs of images at once; trying fewer", self._last_pairs
                    )
                else:
                    self._hold_fewer(longest, pieces, error)
            counted.undo()

    def _fitting_images(self, longest: int, image: int) -> int:
        """Number of images, of `image` bytes, of a shard that fit on a device; `longest` if its memory is unknown."""
        devices, room = len(self.mesh), min(processes.gather(device_bytes(self.mesh.local.devices)))
        fitting = int(DEVICE_SHARE * room / image)
        # a single device compares its shard with itself and needs no other
        if not room or longest <= fitting // (1 if devices == 1 else shards_at_once(devices)):
            return longest
        return max(1, fitting // shards_at_once(devices))

    def _hold_fewer(self, longest: int, pieces: int, error: Exception) -> None:
        """Halves the pieces of the shards.

        Raises:
            OutOfMemoryError: the pieces are single images.
        """
        if pieces >= longest:
            raise OutOfMemoryError(f"a device has too little memory for the patches of two images; {ADVICE}") from error
        # with fewer images in memory, larger calls may fit again
        held, self.max_images, self.max_pairs = -(-longest // pieces), -(-longest // min(2 * pieces, longest)), 0
        logger.warning("a device is out of memory with the patches of %d images; trying %d", held, self.max_images)

    def _put(self, tokens: Any, first: int, device_length: int, shards: Shards) -> PatchSet:
        """Copies the images of each device to it, padded to the length of a shard, and prepares them for the kernel."""
        local, prepare_shards = self.mesh.local.devices, _prepare(self.mesh, self.options)
        own = [slice(*(shards[self.mesh.devices.index(device)] - first).tolist()) for device in local]
        if len(self.mesh) == 1:
            return prepare_shards(tokens_on_device(local[0], tokens, own[0], device_length))
        return prepare_shards(self.mesh.put_shards([tokens_on_host(tokens, images, device_length) for images in own]))

    def _compare(self, cut: list[Shards], put: Callable[[Shards], PatchSet], compare: Callable[..., None]) -> None:
        """Compares all pairs of the pieces in `cut` of the shards; `put` copies a piece to the devices."""
        for a, mine in enumerate(cut):
            self._last_pairs = 0
            own = put(mine)
            for theirs in cut[a:]:
                self._last_pairs = 0
                remote = own if theirs is mine else put(theirs)
                compare((mine, own), (theirs, remote))
                del remote
            del own

    def _compare_shards(
        self,
        references: Int[np.ndarray, " m"],
        write_distances: Writer,
        advance: Progress,
        pairs: int,
        same_size: bool,
        staying: tuple[Shards, PatchSet],
        moving: tuple[Shards, PatchSet],
    ) -> None:
        """Compares the shards that stay on their devices with those that move around the ring, in both directions."""
        (mine, own), (theirs, remote) = staying, moving
        next_remote, at_step = remote, 0
        waiting: tuple[Callable[[], None], int] | None = None
        last_step, batch = turn(mine, theirs)[-1], min(self.options.batch, pairs)
        for ring_step in ring_steps(mine, theirs, references, batch, pairs, same_size):
            is_first = ring_step.step > at_step or waiting is None
            if ring_step.step > at_step:
                remote, at_step = next_remote, ring_step.step
            pass_on = is_first and ring_step.step < last_step
            self._last_pairs = ring_step.own.shape[1]
            fitting = self.options._replace(batch=batch)
            call = self._on_devices(ring_step, mine[:, 0] <= np.roll(theirs[:, 0], -ring_step.step))
            own_distances, remote_distances, passed = _step(self.mesh, fitting, pass_on)(own, remote, call)
            next_remote = passed if pass_on else next_remote
            wait = write_distances(ring_step, mine, theirs, own_distances, remote_distances)
            # wait for the previous call while this one is computed
            if waiting:
                waiting[0]()
                advance(waiting[1])
            waiting = wait, int(ring_step.valid.sum())
        if waiting:
            waiting[0]()
            advance(waiting[1])

    def _on_devices(self, ring_step: RingStep, own_first: Bool[np.ndarray, " d"]) -> Int[Array, "d 3 b"]:
        """The pairs of a call on the devices, and which shard is lower, in one array, since every copy takes time."""
        sides = np.broadcast_to(own_first[:, None], ring_step.own.shape)
        call = np.stack([ring_step.own, ring_step.remote, sides], axis=1).astype(np.int32)
        placed: Int[Array, "d 3 b"] = self.mesh.put_shards(
            [call[self.mesh.devices.index(device)] for device in self.mesh.local.devices]
        )
        return placed


@lru_cache(maxsize=64)
def ring_of(mesh: DeviceMesh, options: DistanceOptions) -> Ring:
    """The ring of some devices; it is cached, so that its limits hold for all layers and categories."""
    return Ring(mesh, options)


def pairwise_distances(
    normalised: Float[Array | np.ndarray, "k p c"],
    options: DistanceOptions,
    references: Int[np.ndarray, " m"],
    advance: Progress = lambda pairs: None,
    allocate: Allocate = in_memory,
    mesh: DeviceMesh | None = None,
    counts: tuple[int, ...] = (),
) -> Float[np.ndarray, "r n m p"]:
    """Distance of every patch of every image to every reference image, for each degree, in one layer.

    `normalised` has the patch tokens (`aggregation.normalise`) of the images of this process; with several, each has
    consecutive images, `counts` of them. Without a mesh, the first local device is used; `advance` is called with the
    number of finished pairs.

    Returns:
        float32 distances in [0, 2] on the host, the whole table in every process; infinite to the image itself.
    """
    mesh, counts = mesh or DeviceMesh(tuple(jax.local_devices()[:1])), counts or (len(normalised),)
    column = reference_columns(sum(counts), references)
    distances = allocate((len(options.degrees), sum(counts), len(references), normalised.shape[1]))
    distances.fill(np.inf)

    def write_distances(
        ring_step: RingStep, mine: Shards, theirs: Shards, own_distances: Array, remote_distances: Array
    ) -> Callable[[], None]:
        def copy() -> None:
            first, second = ring_step.images(mine, theirs)
            for i, j, side in ((first, second, own_distances), (second, first, remote_distances)):
                to = ring_step.columns(column, j)
                distances[:, i[to >= 0], to[to >= 0]] = _fetch(mesh, side)[to >= 0].swapaxes(0, 1)

        return copy

    ring_of(mesh, options).run(normalised, shards_of(mesh, counts), references, write_distances, advance)
    return distances


def _fetch(mesh: DeviceMesh, results: Array) -> Float[np.ndarray, "d b r p"]:
    """The results of all devices; with several processes each device holds a copy of all results."""
    if mesh.spans_processes:
        return np.asarray(results.addressable_shards[0].data)[0]
    parts = [np.asarray(shard.data) for shard in results.addressable_shards]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=64)
def _prepare(mesh: DeviceMesh, options: DistanceOptions) -> Callable[[Array], PatchSet]:
    """A function that prepares the tokens of each device for the kernel and adds a device axis."""
    if len(mesh) == 1:
        # tokens on the device are not copied only to add the axis
        return jax.jit(lambda tokens: jax.tree.map(lambda x: x[None], prepare(tokens, options)))
    return mesh.spread(lambda tokens: prepare(tokens, options))


@lru_cache(maxsize=64)
def _step(mesh: DeviceMesh, options: DistanceOptions, pass_on: bool) -> Any:
    """A function that computes the pairs of one call on every device and, if asked, passes on the remote shard."""
    devices = len(mesh)
    # device d receives the shards of d + 1, d + 2, ...
    ring = [((d + 1) % devices, d) for d in range(devices)]

    def on_device(own: PatchSet, remote: PatchSet, call: Int[Array, "3 b"]) -> tuple[Any, Any, Any]:
        # started before the pairs and used after them, so that the transfer overlaps with the computation
        passed = jax.tree.map(lambda x: lax.ppermute(x, AXIS, ring), remote) if pass_on else None
        mine, theirs, sides = call

        def own_first() -> tuple[Array, Array]:
            return pair_distances(own, remote, mine, theirs, options)

        def remote_first() -> tuple[Array, Array]:
            return pair_distances(remote, own, theirs, mine, options)[::-1]

        # a product and its transpose differ in the last bits, so the image with the lower index is always first
        alone = own_first() if devices == 1 else None
        own_distances, remote_distances = alone or lax.cond(sides[0] > 0, own_first, remote_first)
        if mesh.spans_processes:
            own_distances, remote_distances = (lax.all_gather(x, AXIS) for x in (own_distances, remote_distances))
        return own_distances, remote_distances, passed

    return mesh.spread(on_device)
