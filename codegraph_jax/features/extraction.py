"""From image files to the normalised patch tokens of every layer, on one device or many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import DTypeLike

from codegraph_jax.backbones import Backbone
from codegraph_jax.config import DataConfig
from codegraph_jax.core.arrays import Allocate, in_memory
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.batches import image_batches
from codegraph_jax.data.images import Source, StoredImage, preprocess
from codegraph_jax.distributed import processes
from codegraph_jax.distributed.blocks import Blocks
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.features.buffer import FeatureBuffer
from codegraph_jax.features.cache import FeatureCache, image_key
from codegraph_jax.resume.unfinished import Unfinished, on_device

ADVICE = "a smaller config.backbone.image_size or backbone may fit, or config.backbone.dtype=bfloat16"

RUNNERS = 8
"""Compiled backbones that are kept: one for each device where each takes a category of its own."""


class NotFiniteError(UserError):
    """The backbone gives features that are not numbers; the weights or the precision are at fault."""


@dataclass(frozen=True)
class Extracted:
    """What the later stages need of the images.

    Attributes:
        layers: for each layer the patch tokens [k, p, c], normalised over each image (`features.normalise`) and
            rounded to the type that the run keeps them in: of the k images that this process has read; on the device
            where one does all the work and nothing is cached or mapped, else on the host.
        counts: images of each process; they follow one another.
        image_features: [n, d], for the re-scoring of images.
        keys: digest of each image's pixels as the backbone sees them; equal for equal images, whatever their names.
        kept: which of the sources these n images are.
        skipped: (source index, reason) of those that could not be read.
        from_cache: images whose features the cache held.
    """

    layers: list[Float[Array | np.ndarray, "k p c"]]
    counts: tuple[int, ...]
    image_features: Float[np.ndarray, "n d"]
    keys: list[bytes]
    kept: Int[np.ndarray, " n"]
    skipped: list[tuple[int, str]]
    from_cache: int = 0


def default_batch_size() -> int:
    """Images a device sees at once: a batch gains nothing on CPU and costs memory; accelerators want several."""
    return 1 if jax.default_backend() == "cpu" else 8


def extract(
    backbone: Backbone,
    sources: Sequence[Source],
    image_size: int,
    batch_size: int,
    data: DataConfig,
    mesh: DeviceMesh,
    progress: Progress = lambda images: None,
    allocate: Allocate | None = None,
    unfinished: Unfinished | None = None,
    dtype: DTypeLike = np.float32,
) -> Extracted:
    """Reads, resizes and normalises the images in background threads and runs the backbone over them.

    With several processes each reads a share of the sources and keeps its features; all else is gathered.

    Args:
        backbone: see `codegraph_jax.backbones`.
        sources: image files or uint8 arrays.
        image_size: side S in pixels.
        batch_size: images a device sees at once; 0 takes `default_batch_size`.
        data: what to do with unreadable images, how many threads decode, and where features are cached.
        mesh: the devices; batches are split over those of this process.
        progress: called with the number of images just done.
        allocate: makes an array for each layer, which images go to as they come; none: the batches are joined at the
            end, on the device where that is possible.
        unfinished: of this run, which goes on from the batches that an earlier start has kept there.
        dtype: to which the normalised patch tokens are rounded.

    Raises:
        UnreadableImage: an image cannot be decoded and `data.unreadable` is `error`.
        NotFiniteError: the backbone gives features that are not finite; the image is named.
    """
    preset, devices = backbone.preset, mesh.local
    mine = processes.share(len(sources))
    batches = image_batches(
        sources[mine],
        partial(preprocess, size=image_size, resample=preset.resample, mean=preset.mean, std=preset.std),
        (batch_size or default_batch_size()) * len(devices),
        data.workers,
        data.unreadable,
    )
    run = _runner(backbone, devices)
    cache: FeatureCache | None = None
    buffer: FeatureBuffer | None = None
    if allocate or data.cache:
        # what the cache holds comes before what is computed, so that images must find their places
        buffer = FeatureBuffer(allocate or in_memory, mine.stop - mine.start)
    kept: list[np.ndarray] = []
    keys: list[bytes] = []
    outputs: list[tuple[list[Any], Any]] = []
    running: tuple[np.ndarray, Array] | None = None

    def finish() -> None:
        """Waits for the batch before this one, so that the device always has the next one."""
        if running:
            progress(_finished(sources, *running))
            if len(devices) > 1:
                outputs[-1] = jax.tree.map(_on_host(len(running[0])), outputs[-1])
            if cache:
                outputs[-1] = cache.write(keys[-len(running[0]) :], outputs[-1])
            if unfinished:
                unfinished.write_batch(keys[-len(running[0]) :], outputs[-1])
            if buffer:
                buffer.put(running[0] - mine.start, outputs[-1][0])
                outputs[-1] = [], outputs[-1][1]

    problem = None
    try:
        if data.cache:
            cache = FeatureCache(data.cache, backbone, image_size, dtype)
        for places, images, valid in cache.missing(batches, progress, buffer) if cache and buffer else batches:
            indices = places + mine.start
            if unfinished and (read := unfinished.read_batch(images[:valid])):
                finish()
                running = None
                if buffer:
                    buffer.put(places, read[0])
                    outputs.append(([], read[1]))
                else:
                    outputs.append(on_device(read) if len(devices) == 1 else read)
                progress(valid)
            else:
                layers, image_features, finite = run(images)
                finish()
                if len(devices) == 1:
                    layers, image_features = [layer[:valid] for layer in layers], image_features[:valid]
                layers = [layer.astype(dtype) for layer in layers]
                outputs.append((layers, image_features))
                running = indices, finite
            kept.append(indices)
            keys += [image_key(image) for image in images[:valid]]
        finish()
    except UserError as error:
        problem = error
    processes.fail_together(problem)
    found = cache.found if cache else 0
    if cache:
        outputs, kept, keys = cache.merge(outputs, kept, keys, mine.start)
    skipped = [(i + mine.start, why) for i, why in batches.skipped]
    places = np.concatenate(kept) if kept else np.zeros(0, int)
    if not outputs:
        patches = (image_size // backbone.preset.patch_size) ** 2
        layers = [np.zeros((0, patches, backbone.preset.width), dtype) for _ in backbone.blocks]
    elif buffer:
        layers = buffer.joined(places - mine.start)
    else:
        layers = [_stack(outputs, k) for k in range(len(backbone.blocks))]
    return _joined(layers, [features for _, features in outputs], places, keys, skipped, found)


@lru_cache(maxsize=RUNNERS)
def _runner(backbone: Backbone, devices: DeviceMesh) -> Callable[[np.ndarray], Any]:
    """The backbone over a batch; several devices take equal parts of it, and the results have a device axis.

    Kept, so that the categories of a run share one compiled program, and what was learnt of a device's memory.
    """
    compiled, blocks = _compiled(backbone, devices), Blocks("images", ADVICE)

    def run(images: np.ndarray) -> Any:
        if len(devices) == 1:
            return blocks(lambda part: compiled(images[part]), len(images))
        images = images.reshape(len(devices), -1, *images.shape[1:])
        return blocks(lambda part: compiled(images[:, part]), images.shape[1], axis=1)

    return run


def _compiled(backbone: Backbone, devices: DeviceMesh) -> Callable[[np.ndarray], Any]:
    forward = partial(_forward, backbone)
    if len(devices) == 1:
        return partial(jax.jit(forward), backbone.params)
    spread, params = devices.spread(forward), devices.copy_to_all(backbone.params)
    return lambda images: spread(params, devices.place(list(images)))


def _on_host(valid: int) -> Callable[[Array], np.ndarray]:
    """Brings [devices, b, ...] to [valid, ...]."""
    return lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:valid]


def _joined(
    layers: list[Any],
    image_features: list[Any],
    places: Int[np.ndarray, " k"],
    keys: list[bytes],
    skipped: list[tuple[int, str]],
    found: int,
) -> Extracted:
    """What this process has read, and what every process has to know of the others' images."""
    own_features = [np.asarray(features) for features in image_features] or [np.zeros((0, 0), np.float32)]
    return Extracted(
        layers,
        tuple(processes.gather(len(keys))),
        processes.gather_rows(np.concatenate(own_features)),
        [bytes.fromhex(key) for part in processes.gather([key.hex() for key in keys]) for key in part],
        processes.gather_rows(places),
        [(i, why) for part in processes.gather(skipped) for i, why in part],
        sum(processes.gather(found)),
    )


def _forward(backbone: Backbone, params: Any, images: Float[Array, "b s s 3"]) -> tuple[list[Array], Array, Array]:
    out = backbone.apply(params, images)
    layers = [normalise(block) for block in out["blocks"]]
    finite = jnp.stack([jnp.isfinite(layer).all(axis=(1, 2)) for layer in layers]).all(axis=0)
    return layers, out["image"], finite & jnp.isfinite(out["image"]).all(axis=1)


def _finished(sources: Sequence[Source], indices: Int[np.ndarray, " v"], finite: Bool[Array, " b"]) -> int:
    """Waits for a batch, checks it, and returns its number of images."""
    good = np.asarray(finite).ravel()[: len(indices)]
    if not good.all():
        broken = sources[indices[int(np.argmin(good))]]
        name = str(broken) if isinstance(broken, str | StoredImage) else f"image {indices[int(np.argmin(good))]}"
        raise NotFiniteError(f"{name}: the backbone gives features that are not finite")
    return len(indices)


def _stack(outputs: list[tuple[list[Any], Any]], layer: int) -> Float[Array | np.ndarray, "n p c"]:
    """One layer of all batches in one array; the batches are let go, so that only one layer exists twice."""
    parts = [layers[layer] for layers, _ in outputs]
    for layers, _ in outputs:
        layers[layer] = jnp.zeros(0)
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else jnp.concatenate(parts)
