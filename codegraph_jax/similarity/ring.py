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
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.mapped_arrays import Allocate, in_memory
from codegraph_jax.core.progress import Progress, UndoableProgress
from codegraph_jax.distributed import processes
from codegraph_jax.distributed.chunks import OutOfMemoryError, is_out_of_memory
from codegraph_jax.distributed.devices import AXIS, DeviceMesh
from codegraph_jax.features.on_device import tokens_on_device, tokens_on_host
from codegraph_jax.similarity.pair_distances import DistanceOptions, PatchSet, pair_distances, prepare
from codegraph_jax.similarity.references import reference_columns
from codegraph_jax.similarity.schedule import PAIRS_PER_CALL, RingCall, Shards, piece_of, ring_calls, shards_of, turn

logger = logging.getLogger(__name__)

DEVICE_SHARE = 0.7
"""Share of a device's memory for the patches of a layer."""

ADVICE = "a smaller input size, fewer photos, or more devices may fit"

Writer = Callable[[RingCall, Float[Array, "d b r p"], Float[Array, "d b r p"]], Callable[[], None]]
"""Starts to store the distances of one call, in both directions; returns a function that waits until they are stored.
After a device has run out of memory it may be called with the same pairs again."""


def shards_at_once(device_count: int) -> int:
    """Number of shards on a device: its own, the remote one, and the next one; a single device receives none."""
    return 3 if device_count > 1 else 2


def image_bytes(value_count: int, itemsize: int, options: DistanceOptions) -> int:
    """Peak memory of an image's tokens on a device, in bytes, while they are prepared.

    The tokens are `value_count` values of `itemsize` bytes each.
    """
    prepared = 1 if options.kernel == "reuse" else len(options.degrees)
    # a float32 copy exists beside input and result
    return value_count * (itemsize + 4 + prepared * (2 if options.precision == "bfloat16" else 4))


@dataclass
class RingLimits:
    """Limits that are lowered if a device runs out of memory.

    Attributes:
        per_product: maximum number of pairs or blocks in one product.
        image_count: maximum number of images in a piece of a shard; 0: no limit.
    """

    per_product: int
    image_count: int = 0


@lru_cache(maxsize=64)
def ring_limits(mesh: DeviceMesh, options: DistanceOptions) -> RingLimits:
    """The limits of some devices; they are cached, so that they hold for all layers and categories."""
    return RingLimits(options.per_product)


@dataclass(frozen=True)
class Ring:
    """Compares all images of a layer on several devices.

    Attributes:
        mesh: the devices.
        options: kernel, degrees and grid.
        references: indices of the reference images, in ascending order.
        write_distances: stores the distances of a call.
        progress: called with the number of finished pairs.
        pairs_per_call: maximum number of pairs of a device in one call.
        device_length: number of images to which whole shards are padded, and calls to `pairs_per_call`, so that sets of
            different sizes share their programs; 0: as little padding as possible.
    """

    mesh: DeviceMesh
    options: DistanceOptions
    references: Int[np.ndarray, " m"]
    write_distances: Writer
    progress: UndoableProgress
    pairs_per_call: int = PAIRS_PER_CALL
    device_length: int = 0

    def run(self, tokens: Any, shards: Shards) -> None:
        """Compares all pairs of shards, in pieces if devices cannot hold whole shards.

        `tokens` are those of the images of this process. Without `device_length`, a device that runs out of memory gets
        smaller products, then fewer images at once.

        Raises:
            OutOfMemoryError: a device has too little memory for two images.
        """
        _, p, c = tokens.shape
        limits, longest = ring_limits(self.mesh, self.options), max(1, int((shards[:, 1] - shards[:, 0]).max()))
        fitting = self._fitting_images(longest, image_bytes(p * c, tokens.dtype.itemsize, self.options))
        while True:
            piece_count = -(-longest // min(limits.image_count or longest, fitting))
            ring = replace(self, options=self.options.limited(limits.per_product))
            try:
                # in a separate function, so that the memory of a failed attempt is freed
                ring._compare_pieces(tokens, shards, piece_count)
                return
            except jax.errors.JaxRuntimeError as error:
                # with a fixed length the host stores the distances instead; other processes would wait for this one
                if self.device_length or not is_out_of_memory(error) or self.mesh.spans_processes:
                    raise
                if limits.per_product == 1 and piece_count >= longest:
                    message = f"a device has too little memory for the patches of two images; {ADVICE}"
                    raise OutOfMemoryError(message) from error
            if limits.per_product > 1:
                count, limits.per_product = limits.per_product, limits.per_product // 2
                logger.warning(
                    "a device is out of memory with %d products at once; trying %d", count, limits.per_product
                )
            else:
                # with fewer images in memory, larger products may fit again
                limits.per_product = self.options.per_product
                limits.image_count = -(-longest // min(2 * piece_count, longest))
                logger.warning(
                    "a device is out of memory with the patches of %d images; trying %d",
                    -(-longest // piece_count), limits.image_count,
                )  # fmt: skip
            self.progress.undo()

    def _fitting_images(self, longest: int, bytes_per_image: int) -> int:
        """Number of images of a shard that fit on a device; `longest` if its memory is unknown."""
        devices, room = len(self.mesh), min(processes.gather(device_bytes(self.mesh.local.devices)))
        fitting = int(DEVICE_SHARE * room / bytes_per_image)
        # a single device compares its shard with itself and needs no other
        if not room or longest <= fitting // (1 if devices == 1 else shards_at_once(devices)):
            return longest
        return max(1, fitting // shards_at_once(devices))

    def _compare_pieces(self, tokens: Any, shards: Shards, piece_count: int) -> None:
        """Compares all pairs of the pieces of the shards."""
        first_image = int(shards[self._local_indices, 0].min())
        pieces = [piece_of(shards, piece_count, piece) for piece in range(piece_count)]
        lengths = [int((piece[:, 1] - piece[:, 0]).max()) for piece in pieces]
        length = self.device_length if self.device_length and piece_count == 1 else max(1, *lengths)
        for number, own_shards in enumerate(pieces):
            own = self._put_tokens(tokens, own_shards - first_image, length)
            for remote_shards in pieces[number:]:
                same = remote_shards is own_shards
                remote = own if same else self._put_tokens(tokens, remote_shards - first_image, length)
                self._compare_shards(own_shards, own, remote_shards, remote)
                del remote
            del own

    @property
    def _local_indices(self) -> list[int]:
        """Indices of the devices of this process."""
        return [self.mesh.devices.index(device) for device in self.mesh.local.devices]

    def _put_tokens(self, tokens: Any, shards: Shards, length: int) -> PatchSet:
        """Copies the tokens of its shard to each device, padded to `length`, and prepares them for the kernel."""
        prepare_shards = _prepare(self.mesh, self.options)
        own = [slice(*shards[index].tolist()) for index in self._local_indices]
        if len(self.mesh) == 1:
            return prepare_shards(tokens_on_device(self.mesh.devices[0], tokens, own[0], length))
        return prepare_shards(self.mesh.put_shards([tokens_on_host(tokens, images, length) for images in own]))

    def _compare_shards(self, own_shards: Shards, own: PatchSet, remote_shards: Shards, remote: PatchSet) -> None:
        """Compares own shards, which stay on their devices, with remote ones, which move around the ring."""
        next_remote, at_step = remote, -1
        finish_previous: Callable[[], object] = lambda: None  # noqa: E731
        last_step, same_size = turn(own_shards, remote_shards)[-1], self.device_length > 0
        pairs_per_product = self.options.pairs_per_product
        for call in ring_calls(
            own_shards, remote_shards, self.references, pairs_per_product, self.pairs_per_call, same_size
        ):
            is_first = call.step > at_step
            if is_first:
                remote, at_step = next_remote, call.step
            pass_on = is_first and call.step < last_step
            indices = self._put_pairs(call)
            own_distances, remote_distances, passed = _step(self.mesh, self.options, pass_on)(own, remote, indices)
            next_remote = passed if pass_on else next_remote
            wait = self.write_distances(call, own_distances, remote_distances)
            # wait for the previous call while this one is computed
            finish_previous()
            finish_previous = partial(self._finish, wait, int(call.valid.sum()))
        finish_previous()

    def _finish(self, wait: Callable[[], None], pair_count: int) -> None:
        """Waits until the distances of a call are stored."""
        wait()
        self.progress(pair_count)

    def _put_pairs(self, call: RingCall) -> Int[Array, "d 3 b"]:
        """Copies the pairs of a call to the devices, with whether the own shard is the lower one.

        Both are in one array, since every copy takes time.
        """
        own_is_lower = np.broadcast_to(call.own_start <= call.remote_start, call.own_indices.shape)
        indices = np.stack([call.own_indices, call.remote_indices, own_is_lower], axis=1).astype(np.int32)
        placed: Int[Array, "d 3 b"] = self.mesh.put_shards([indices[index] for index in self._local_indices])
        return placed


def pairwise_distances(
    normalised: Float[Array | np.ndarray, "k p c"],
    options: DistanceOptions,
    references: Int[np.ndarray, " m"],
    advance: Progress = lambda pairs: None,
    allocate: Allocate = in_memory,
    mesh: DeviceMesh | None = None,
    images_per_process: tuple[int, ...] = (),
) -> Float[np.ndarray, "r n m p"]:
    """Distance of every patch of every image to every reference image, for each degree, in one layer.

    `normalised` has the patch tokens (`aggregation.normalise`) of the images of this process, which are consecutive.
    Without a mesh, the first local device is used; `advance` is called with the number of finished pairs.

    Returns:
        float32 distances in [0, 2] on the host, the whole table in every process; infinite to the image itself.
    """
    mesh = mesh or DeviceMesh(tuple(jax.local_devices()[:1]))
    images_per_process = images_per_process or (len(normalised),)
    column_of = reference_columns(sum(images_per_process), references)
    distances = allocate((len(options.degrees), len(column_of), len(references), normalised.shape[1]))
    distances.fill(np.inf)

    def write_distances(call: RingCall, own_distances: Array, remote_distances: Array) -> Callable[[], None]:
        def copy() -> None:
            first, second = call.images
            for i, j, side in ((first, second, own_distances), (second, first, remote_distances)):
                columns = call.columns(column_of, j)
                stored = columns >= 0
                distances[:, i[stored], columns[stored]] = _fetch(mesh, side)[stored].swapaxes(0, 1)

        return copy

    ring = Ring(mesh, options, references, write_distances, UndoableProgress(advance))
    ring.run(normalised, shards_of(mesh, images_per_process))
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

    def on_device(own: PatchSet, remote: PatchSet, indices: Int[Array, "3 b"]) -> tuple[Any, Any, Any]:
        # started before the pairs and used after them, so that the transfer overlaps with the computation
        passed = jax.tree.map(lambda x: lax.ppermute(x, AXIS, ring), remote) if pass_on else None
        own_indices, remote_indices, own_is_lower = indices

        def own_first() -> tuple[Array, Array]:
            return pair_distances(own, remote, own_indices, remote_indices, options)

        def remote_first() -> tuple[Array, Array]:
            return pair_distances(remote, own, remote_indices, own_indices, options)[::-1]

        # a product and its transpose differ in the last bits, so the image with the lower index is always first
        distances = own_first() if devices == 1 else lax.cond(own_is_lower[0] > 0, own_first, remote_first)
        own_distances, remote_distances = distances
        if mesh.spans_processes:
            own_distances, remote_distances = (lax.all_gather(x, AXIS) for x in (own_distances, remote_distances))
        return own_distances, remote_distances, passed

    return mesh.spread(on_device)
