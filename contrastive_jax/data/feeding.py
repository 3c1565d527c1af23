"""Feeds training images to the device: whole sets in its memory, or batches streamed from the host."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from codegraph_jax.core.environment import device_bytes
from codegraph_jax.distributed.processes import gather
from contrastive_jax.config import OeclConfig
from contrastive_jax.data.image_set import Images
from contrastive_jax.data.protocols import Stream
from contrastive_jax.training.mesh import BATCH_AXIS, put_on_mesh

DEVICE_BYTES, DEVICE_SHARE = 2 << 30, 0.25
"""Sets up to this size or this share of a device's memory are stored on it; larger ones are streamed."""
STREAMED_BYTES = 256 << 20
"""Maximum number of bytes of images in one streamed call."""
STEPS_PER_CALL = 64
"""Steps in one call, so that the host's work per call takes no extra time."""


def max_device_bytes(mesh: Mesh) -> int:
    """Greatest size in bytes of sets that are stored on every device; the same in all processes."""
    local = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    return int(min(gather(max(DEVICE_SHARE * device_bytes(local), DEVICE_BYTES))))


class Feeder:
    """Yields the arguments of each training call, in an order that depends on seed and epoch only."""

    def __init__(self, config: OeclConfig, normal: Images, oe: Images | None, mesh: Mesh):
        """Puts the sets on the devices if they fit, and chooses the number of steps per call."""
        self._config, self._mesh = config, mesh
        self._sets = {"normal": normal} if oe is None else {"normal": normal, "oe": oe}
        self.steps_per_epoch = len(normal) // config.train.batch_size
        self._padded_batch = -(-config.train.batch_size // mesh.size) * mesh.size
        self.on_device = sum(images.nbytes for images in self._sets.values()) <= max_device_bytes(mesh)
        self.steps_per_call = min(self._max_steps_per_call(), self.steps_per_epoch)
        self._placed: Any = None
        if self.on_device:
            self._placed = put_on_mesh(self._sets, mesh)

    def _max_steps_per_call(self) -> int:
        if self._mesh.devices.flat[0].platform == "cpu":
            return 1
        if self.on_device:
            return STEPS_PER_CALL
        step = sum(images[:1].nbytes for images in self._sets.values()) * self._padded_batch
        return min(STEPS_PER_CALL, max(1, STREAMED_BYTES // step))

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any, np.integer]]:
        """The (images, rows, count) of each call of an epoch; a thread prepares those of the next call."""
        config, steps = self._config, self.steps_per_epoch
        batch, seed = config.train.batch_size, config.seed
        order = {"normal": epoch_order(len(self._sets["normal"]), steps, batch, seed, epoch)}
        if "oe" in self._sets:
            order["oe"] = oe_order(len(self._sets["oe"]), steps, batch, seed, epoch, config.oe.resample)
        starts = range(0, steps, self.steps_per_call)
        with ThreadPoolExecutor(1) as pool:
            prepared = pool.submit(self._call_arguments, order, 0)
            for next_start in (*starts[1:], None):
                arguments = prepared.result()
                if next_start is not None:
                    prepared = pool.submit(self._call_arguments, order, next_start)
                yield arguments

    def _call_arguments(self, order: dict[str, np.ndarray], start: int) -> tuple[Any, Any, np.integer]:
        count = min(self.steps_per_call, self.steps_per_epoch - start)
        split = PartitionSpec(None, BATCH_AXIS)
        # padding rows are image 0, and the step masks them
        rows = {
            name: np.pad(
                rows_of_steps[start : start + count].astype(np.int32),
                ((0, self.steps_per_call - count), (0, self._padded_batch - rows_of_steps.shape[1])),
            )
            for name, rows_of_steps in order.items()
        }
        if self.on_device:
            return self._placed, put_on_mesh(rows, self._mesh, split), np.int32(count)
        sharding = NamedSharding(self._mesh, split)

        def gathered(name: str) -> jax.Array:
            images, wanted = self._sets[name], rows[name]

            def part_of(part: Any) -> np.ndarray:
                # only the rows of this process's devices
                return images[wanted[part[:2]]]

            return jax.make_array_from_callback((*wanted.shape, *images.shape[1:]), sharding, part_of)

        return {name: gathered(name) for name in rows}, {}, np.int32(count)


def epoch_order(image_count: int, steps: int, batch_size: int, seed: int, epoch: int) -> Int[np.ndarray, "s b"]:
    """Rows of the normal images for each step of an epoch: a permutation without its incomplete last batch."""
    order = Stream.EPOCH_ORDER.generator(seed, epoch).permutation(image_count)
    return order[: steps * batch_size].reshape(steps, batch_size)


def oe_order(
    image_count: int, steps: int, batch_size: int, seed: int, epoch: int, resample: str
) -> Int[np.ndarray, "s b"]:
    """Rows of the OE images for each step of an epoch.

    They are drawn without repetition if the set is large enough, else uniformly with replacement (few-shot OE). `fixed`
    repeats the draw of the first epoch, `fresh` draws in each epoch.
    """
    rng = Stream.OE_ORDER.generator(seed, 0 if resample == "fixed" else epoch)
    wanted = steps * batch_size
    if image_count >= wanted:
        return rng.permutation(image_count)[:wanted].reshape(steps, batch_size)
    return rng.integers(0, image_count, (steps, batch_size))
