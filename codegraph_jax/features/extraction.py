"""Extracts the normalised patch tokens of every layer from image files, on one device or several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.environment import decoding_threads
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.mapped_arrays import Allocate, in_memory
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.batches import Batch, ImageBatches
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import everything
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.distributed import processes
from codegraph_jax.distributed.chunks import Chunks
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalised_layers
from codegraph_jax.features.features import Features
from codegraph_jax.features.memory import feature_type
from codegraph_jax.features.on_device import DeviceFeatureBuffer
from codegraph_jax.features.stores import BatchFeatures, FeatureBuffer, FeatureStore, StoredFeatures
from codegraph_jax.features.token_set import TokenBatches, TokenSet
from codegraph_jax.features.tokens import host_tokens, image_tokens

ADVICE = "a smaller input size, a smaller network, or bfloat16 may fit"


class NotFiniteError(UserError):
    """The backbone gives NaN or infinite features; the weights are damaged or the precision is too low."""


def default_batch_size() -> int:
    """Images per device and batch: 1 on CPUs, where larger batches only need more memory; 8 on accelerators."""
    return 1 if jax.default_backend() == "cpu" else 8


@dataclass(frozen=True, eq=False)
class Extractor:
    """Reads, resizes and normalises images in background threads and runs a backbone over them.

    Attributes:
        backbone: see `codegraph_jax.backbones`.
        mesh: the devices; batches are split over those of this process.
        frame: conversion of the photos to grids of patches.
        batch_size: images per device and batch; None: `default_batch_size`.
        unreadable: handling of images that cannot be decoded: `skip` or `error`.
        dtype: type to which the normalised patch tokens are rounded.
    """

    backbone: LoadedBackbone
    mesh: DeviceMesh
    frame: Frame
    batch_size: int | None = None
    unreadable: str = "skip"
    dtype: Any = np.float32

    @classmethod
    def of(cls, config: Config, backbone: LoadedBackbone, mesh: DeviceMesh) -> "Extractor":
        """The extractor of a run, for photos resized to squares."""
        # tokens that were computed elsewhere have no image size; their frame follows from their grid
        frame = Frame.squeezed(max(config.backbone.side, backbone.patch_size), backbone.patch_size)
        dtype = feature_type(config.precision)
        return cls(backbone, mesh, frame, config.backbone.batch_size, config.data.unreadable, dtype)

    def with_frame(self, frame: Frame) -> "Extractor":
        """The extractor for another frame; for the same frame the extractor itself, with its compiled program."""
        return self if frame == self.frame else replace(self, frame=frame)

    def extract(
        self,
        sources: Sequence[Sample] | TokenSet,
        stores: Sequence[FeatureStore] = (),
        *,
        allocate: Allocate = in_memory,
        device_length: int = 0,
        drop_copies: bool = False,
        value_range: ValueRange | None = None,
        advance: Progress = lambda images: None,
    ) -> Features:
        """The features of a set of images.

        Each process reads a share of the images; everything but the layers is gathered from all processes.

        Args:
            sources: samples; or given tokens, for a `PrecomputedBackbone`.
            stores: features come from the first store that has an image; new features are stored in all of them.
            allocate: allocates the arrays of the layers on the host.
            device_length: keep the layers on the single device instead, as `DeviceLayer`s with arrays of this length,
                at least the number of images; 0: on the host.
            drop_copies: keep only the first of several images with the same pixels.
            value_range: see `load_image`.
            advance: called with the number of images just finished.

        Raises:
            UnreadableImageError: an image cannot be decoded and `unreadable` is `error`.
            NotFiniteError: the backbone gives features that are not finite; names the image.
        """
        mine = processes.process_slice(len(sources))
        frame, batches = self.frame, self._batches(sources[mine], value_range)
        patches = frame.grid[0] * frame.grid[1]
        shape, layer_count = (len(sources[mine]), patches, self.backbone.width), len(self.backbone.blocks)
        collected = _Collected(
            DeviceFeatureBuffer(device_length, self.mesh.devices[0])
            if device_length
            else FeatureBuffer(shape, layer_count, self.dtype, allocate)
        )
        running: tuple[Batch, BatchFeatures, Array] | None = None

        def finish(batch: Batch, features: BatchFeatures, finite: Array) -> None:
            _require_finite(sources, batch.indices + mine.start, finite)
            features = self._on_host_if_spread(features)
            for store in stores:
                store.save(batch.indices, batch.keys, features)
            collected.add(batch.indices, batch.keys, features)
            advance(len(batch.indices))

        with processes.errors_in_all_processes():
            for batch in _batches_to_compute(batches, stores, collected, advance):
                started = self._start(batch, batches.sizes)
                # wait for the previous batch only after this one has started, so that the device is never idle
                if running:
                    finish(*running)
                running = batch, *started
            if running:
                finish(*running)
        features = collected.features(frame, batches, mine.start, drop_copies)
        parts = processes.gather([[i + mine.start, levels] for i, levels in batches.grey_levels.items()])
        grey_levels = {i: levels for of_process in parts for i, levels in of_process}
        discriminative = self.backbone.discriminative
        return replace(features, value_range=value_range, grey_levels=grey_levels, discriminative=discriminative)

    def _batches(
        self, sources: Sequence[Sample] | TokenSet, value_range: ValueRange | None
    ) -> ImageBatches | TokenBatches:
        size = (self.batch_size or default_batch_size()) * len(self.mesh.local)
        if isinstance(sources, TokenSet):
            return TokenBatches(sources, size)
        backbone = self.backbone
        prepare = partial(self.frame.preprocess, resample=backbone.resample, mean=backbone.mean, std=backbone.std)
        return ImageBatches(sources, prepare, size, decoding_threads(), self.unreadable, value_range)

    def forward(
        self, images: Float[np.ndarray, "b y x 3"], *covered: Bool[np.ndarray, "b p"]
    ) -> tuple[list[Array], Array, Array]:
        """Runs the backbone over a batch: layers, image features, and whether the features of each image are finite.

        Several devices process equal parts, and the results have a leading device axis. After a device has run out of
        memory, it gets fewer images at once. `covered` is at most one mask of the patches that the photos cover.
        """
        compiled, devices, chunks = self.compiled, self.mesh.local, self._chunks
        given = [images, *covered]
        if len(devices) == 1:
            return chunks(lambda part: compiled(*(x[part] for x in given)), len(images))
        given = [x.reshape(len(devices), -1, *x.shape[1:]) for x in given]
        return chunks(lambda part: compiled(*(x[:, part] for x in given)), given[0].shape[1], axis=1)

    def _start(self, batch: Batch, sizes: Mapping[int, tuple[int, int]]) -> tuple[BatchFeatures, Array]:
        """Starts the computation of a batch without waiting for it.

        The results are padded: cutting the padding off on a device compiles a program for every number of images.
        """
        covered = []
        if self.frame.keeps_aspect:
            rects = [self.frame.rect(*sizes[index]) for index in batch.indices.tolist()]
            # padding counts as covered: the mean over no patches would be undefined
            mask = np.ones((len(batch.images), self.frame.grid[0] * self.frame.grid[1]), bool)
            mask[: len(rects)] = self.frame.covered(rects)
            covered.append(mask)
        layers, image_features, finite = self.forward(batch.images, *covered)
        return BatchFeatures([layer.astype(self.dtype) for layer in layers], image_features), finite

    def _on_host_if_spread(self, features: BatchFeatures) -> BatchFeatures:
        """Results of several devices, [devices, b, ...], as host arrays [devices * b, ...]."""
        if len(self.mesh.local) == 1:
            return features
        return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), features)

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The backbone as a function of a batch; its compiled program is shared by all detectors of the process."""
        devices, backbone = self.mesh.local, self.backbone
        if backbone.on_host:
            return self._run_on_host
        program = _program(self.frame, devices)
        if len(devices) == 1:
            return partial(program, backbone)
        copies = devices.copy_to_all(backbone)
        return lambda *given: program(copies, *devices.put_shards(list(zip(*given))))

    def _run_on_host(self, images: Float[np.ndarray, "*d b _ _ _"], *covered: Bool[np.ndarray, "*d b p"]) -> Any:
        """A batch of a backbone that JAX cannot trace: called at once for all devices, which then normalise."""
        devices, program = self.mesh.local, _program(None, self.mesh.local)
        if len(devices) == 1:
            tokens = host_tokens(self.backbone, self.frame, images)
            return program(*jax.device_put((*tokens, *covered), devices.devices[0]))
        tokens = host_tokens(self.backbone, self.frame, images.reshape(-1, *images.shape[2:]))
        layers, image_features = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), tokens)
        return program(*devices.put_shards([(*given,) for given in zip(zip(*layers), image_features, *covered)]))

    @cached_property
    def _chunks(self) -> Chunks:
        """Shared by the categories of a run, so that the batch size that fits on a device is found only once."""
        return Chunks("images", ADVICE)


@dataclass
class _Collected:
    """The features so far."""

    layers: FeatureBuffer | DeviceFeatureBuffer
    indices: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    image_features: list[np.ndarray] = field(default_factory=list)
    from_store: set[int] = field(default_factory=set)

    def add(self, indices: Int[np.ndarray, " v"], keys: list[bytes], features: BatchFeatures) -> None:
        """Adds the features of some images."""
        self.layers.add(indices, features.layers)
        self.indices += indices.tolist()
        self.keys += keys
        self.image_features.append(np.asarray(features.image_features, np.float32)[: len(indices)])

    def add_stored(self, indices: Int[np.ndarray, " v"], keys: list[bytes], entries: Sequence[StoredFeatures]) -> None:
        """Adds features from a store."""
        self.from_store.update(indices.tolist())
        layers = [np.stack(parts) for parts in zip(*(entry.layers for entry in entries))]
        self.add(indices, keys, BatchFeatures(layers, np.stack([entry.image_feature for entry in entries])))

    def features(self, frame: Frame, batches: ImageBatches | TokenBatches, start: int, drop_copies: bool) -> Features:
        """All features in the order of the sources; everything but the layers is gathered from all processes.

        The batches, which have been read, and the index `start` of the first source are those of this process.
        """
        order = np.argsort(self.indices)
        # (source, key) of the images of all processes
        given = [(self.indices[i] + start, self.keys[i].hex()) for i in order]
        images = [(source, key) for of_process in processes.gather(given) for source, key in of_process]
        source_of: dict[str, int] = {}
        original = {source: source_of.setdefault(key, source) if drop_copies else source for source, key in images}
        order = order[np.array([original[source] == source for source, _ in given], bool)]
        indices = np.array(self.indices, int)[order]
        kept = processes.gather_rows(indices + start)
        row_of = {source: row for row, source in enumerate(kept.tolist())}
        sizes = np.array([batches.sizes[i] for i in indices.tolist()], int).reshape(-1, 2)
        skipped = [(i + start, reason) for i, reason in batches.skipped]
        image_features = np.concatenate(self.image_features or [np.zeros((0, 0), np.float32)])
        return Features(
            layers=self.layers.keep(indices),
            images_per_process=tuple(processes.gather(len(indices))),
            image_features=processes.gather_rows(image_features[order]),
            keys=[bytes.fromhex(key) for source, key in images if source in row_of],
            kept=kept,
            placement=Placement.whole(frame, processes.gather_rows(sizes)),
            areas=[everything] * len(kept),
            unreadable=[(i, reason) for of_process in processes.gather(skipped) for i, reason in of_process],
            from_store_count=sum(processes.gather(len(self.from_store.intersection(indices.tolist())))),
            copies=tuple((copy, row_of[source]) for copy, source in original.items() if copy != source),
        )


def _batches_to_compute(
    batches: ImageBatches | TokenBatches, stores: Sequence[FeatureStore], collected: _Collected, advance: Progress
) -> Iterator[Batch]:
    """Full batches of the images that no store has; features from stores are added to `collected`."""
    indices: list[int] = []
    keys: list[bytes] = []
    pixels: np.ndarray | None = None
    for batch in batches:
        entries = _load(stores, batch.keys)
        stored = {i: entry for i, entry in enumerate(entries) if entry is not None}
        if stored:
            collected.add_stored(batch.indices[[*stored]], [batch.keys[i] for i in stored], [*stored.values()])
            advance(len(stored))
        elif not indices:
            yield batch
            continue
        for i, index in enumerate(batch.indices.tolist()):
            if i in stored:
                continue
            if pixels is None:
                pixels = np.zeros_like(batch.images)
            pixels[len(indices)] = batch.images[i]
            indices.append(index)
            keys.append(batch.keys[i])
            if len(indices) == len(pixels):
                yield Batch(np.array(indices), keys, pixels)
                # a new array: the transfer to the device may still read the last one
                indices, keys, pixels = [], [], None
    if pixels is not None:
        yield Batch(np.array(indices), keys, pixels)


def _load(stores: Sequence[FeatureStore], keys: Sequence[bytes]) -> list[StoredFeatures | None]:
    """The features of each image from the first store that has it, otherwise None."""
    entries: list[StoredFeatures | None] = [None] * len(keys)
    for store in stores:
        entries = [known or stored for known, stored in zip(entries, store.load(keys))]
    return entries


@lru_cache(maxsize=16)
def _program(frame: Frame | None, devices: DeviceMesh) -> Callable[..., Any]:
    """The compiled features of images by a backbone; without a frame, of a backbone's tokens.

    The backbone is an argument: detectors share a program if their backbones differ only in their arrays.
    """
    function = partial(_forward, frame) if frame else _forward_tokens
    return jax.jit(function) if len(devices) == 1 else devices.spread(function)


def _forward(
    frame: Frame, backbone: LoadedBackbone, images: Float[Array, "b y x 3"], covered: Array | None = None
) -> tuple[list[Array], Array, Array]:
    return _with_finite(*image_tokens(backbone, frame, images, covered))


def _forward_tokens(
    layers: Sequence[Float[Array, "b p c"]], image_features: Float[Array, "b d"], covered: Array | None = None
) -> tuple[list[Array], Array, Array]:
    return _with_finite(normalised_layers(layers, covered), image_features)


def _with_finite(layers: list[Array], image_features: Array) -> tuple[list[Array], Array, Array]:
    finite = jnp.stack([jnp.isfinite(layer).all(axis=(1, 2)) for layer in layers]).all(axis=0)
    return layers, image_features, finite & jnp.isfinite(image_features).all(axis=1)


def _require_finite(
    sources: Sequence[Sample] | TokenSet, indices: Int[np.ndarray, " v"], finite: Bool[Array | np.ndarray, "*devices b"]
) -> None:
    """Waits for a batch and checks that its features are finite."""
    good = np.asarray(finite).ravel()[: len(indices)]
    if not good.all():
        index = indices[int(np.argmin(good))]
        name = f"image {index}" if isinstance(sources, TokenSet) else sources[index].path
        raise NotFiniteError(f"{name}: the backbone gives features that are not finite")
