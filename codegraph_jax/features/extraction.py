"""Extracts the normalised patch tokens of every layer from image files, on one device or several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.batches import ImageBatches, decoding_threads
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import Source, allow_megapixels, name_of
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.distributed import processes
from codegraph_jax.distributed.chunks import Chunks
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalised_layers
from codegraph_jax.features.features import Features
from codegraph_jax.features.memory import feature_type
from codegraph_jax.features.on_device import DeviceLayers
from codegraph_jax.features.stores import BatchFeatures, FeatureBuffer, FeatureStore, StoredFeatures
from codegraph_jax.features.token_set import TokenBatches, TokenSet
from codegraph_jax.features.tokens import host_tokens, image_tokens

ADVICE = "a smaller input size, a smaller network, or bfloat16 may fit"


class NotFiniteError(UserError):
    """The backbone gives NaN or infinite features; the weights are damaged or the precision is too low."""


def default_batch_size() -> int:
    """Images per device and batch: 1 on CPUs, where larger batches only need more memory; 8 on accelerators."""
    return 1 if jax.default_backend() == "cpu" else 8


class _Batch(NamedTuple):
    """The v images of one call of the backbone, padded with zeros to the batch size b."""

    indices: Int[np.ndarray, " v"]
    keys: list[bytes]
    images: Float[np.ndarray, "b ..."]


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
        allow_megapixels(config.data.max_megapixels)
        # tokens that were computed elsewhere have no image size; their frame follows from their grid
        frame = Frame.squeezed(max(config.backbone.side, backbone.patch_size), backbone.patch_size)
        dtype = feature_type(config.precision)
        return cls(backbone, mesh, frame, config.backbone.batch_size, config.data.unreadable, dtype)

    def with_frame(self, frame: Frame) -> "Extractor":
        """The extractor for another frame; for the same frame the extractor itself, with its compiled program."""
        return self if frame == self.frame else replace(self, frame=frame)

    def extract(
        self,
        sources: Sequence[Source] | TokenSet,
        stores: Sequence[FeatureStore] = (),
        buffer: FeatureBuffer | None = None,
        advance: Progress = lambda images: None,
        once: bool = False,
        value_range: ValueRange | None = None,
        device_length: int = 0,
    ) -> Features:
        """The features of a set of images.

        Each process reads a share of the images; everything but the layers is gathered from all processes.

        Args:
            sources: image files or uint8 arrays; or given tokens, for a `PrecomputedBackbone`.
            stores: features come from the first store that has an image; new features are stored in all of them. A
                store that may have only some images of a batch needs a buffer.
            buffer: collects the layers; None: batches are concatenated at the end, if possible on the device.
            advance: called with the number of images just finished.
            once: keep only the first of several images with the same pixels.
            value_range: see `load_image`.
            device_length: keep the layers on the single device as `DeviceLayer`s with arrays of this length, at least
                the number of images, for runs without a buffer; 0: do not.

        Raises:
            UnreadableImageError: an image cannot be decoded and `unreadable` is `error`.
            NotFiniteError: the backbone gives features that are not finite; names the image.
        """
        mine = processes.process_slice(len(sources))
        frame, batches = self.frame, self._batches(sources[mine], value_range)
        collected = _Collected(DeviceLayers(device_length, self.mesh.devices[0]) if device_length else buffer, once)
        running: tuple[_Batch, BatchFeatures, Array] | None = None

        def finish(batch: _Batch, features: BatchFeatures, finite: Array) -> None:
            _require_finite(sources, batch.indices + mine.start, finite)
            features = self._on_host_if_spread(features, len(batch.indices))
            for store in stores:
                store.save(batch.indices, batch.keys, features)
            collected.add(batch.indices, batch.keys, features)
            advance(len(batch.indices))

        with processes.errors_in_all_processes():
            for batch in _missing(batches, stores, collected, advance):
                started = self._start(batch, batches.sizes, keep_padding=bool(device_length))
                # wait for the previous batch only after this one has started, so that the device is never idle
                if running:
                    finish(*running)
                running = batch, *started
            if running:
                finish(*running)
        skipped = [(i + mine.start, why) for i, why in batches.skipped]
        placement = Placement(frame, np.array([batches.sizes.get(i, (0, 0)) for i in range(len(sources[mine]))]))
        features = collected.features(self._no_layers(), placement, skipped, mine.start)
        parts = processes.gather([[i + mine.start, levels] for i, levels in batches.grey_levels.items()])
        grey_levels = {i: levels for part in parts for i, levels in part}
        discriminative = self.backbone.discriminative
        return replace(features, value_range=value_range, grey_levels=grey_levels, discriminative=discriminative)

    def _batches(
        self, sources: Sequence[Source] | TokenSet, value_range: ValueRange | None
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

    def _start(
        self, batch: _Batch, sizes: Mapping[int, tuple[int, int]], keep_padding: bool
    ) -> tuple[BatchFeatures, Array]:
        """Starts the computation of a batch without waiting for it.

        `keep_padding` leaves the padding in the results of a single device: cutting it off compiles a program for every
        number of images.
        """
        covered = []
        if self.frame.keeps_aspect:
            rects = [self.frame.rect(*sizes[index]) for index in batch.indices.tolist()]
            # padding counts as covered: the mean over no patches would be undefined
            mask = np.ones((len(batch.images), self.frame.grid[0] * self.frame.grid[1]), bool)
            mask[: len(rects)] = self.frame.covered(rects)
            covered.append(mask)
        layers, image_features, finite = self.forward(batch.images, *covered)
        if len(self.mesh.local) == 1 and not keep_padding:
            valid = len(batch.indices)
            layers, image_features = [layer[:valid] for layer in layers], image_features[:valid]
        return BatchFeatures([layer.astype(self.dtype) for layer in layers], image_features), finite

    def _on_host_if_spread(self, features: BatchFeatures, valid: int) -> BatchFeatures:
        """Results of several devices, [devices, b, ...], as host arrays [valid, ...]."""
        if len(self.mesh.local) == 1:
            return features
        return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:valid], features)

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

    def _no_layers(self) -> list[Any]:
        patches = self.frame.grid[0] * self.frame.grid[1]
        return [np.zeros((0, patches, self.backbone.width), self.dtype) for _ in self.backbone.blocks]


@dataclass
class _Collected:
    """The features so far; without a buffer, batches must come in the order of the sources."""

    buffer: FeatureBuffer | DeviceLayers | None
    once: bool
    indices: list[np.ndarray] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    batches: list[BatchFeatures] = field(default_factory=list)
    from_store: int = 0
    first: dict[bytes, int] = field(default_factory=dict)
    copies: list[tuple[int, int]] = field(default_factory=list)

    def is_new(self, index: int, key: bytes) -> bool:
        """Whether no earlier image has the same pixels; records copies."""
        first = self.first.setdefault(key, index) if self.once else index
        if first != index:
            self.copies.append((index, first))
        return first == index

    def add(self, indices: Int[np.ndarray, " v"], keys: list[bytes], features: BatchFeatures) -> None:
        """Adds the features of some images."""
        if self.buffer:
            self.buffer.add(indices, features.layers)
            features = features._replace(layers=[])
        self.indices.append(indices)
        self.keys += keys
        self.batches.append(features)

    def add_found(self, indices: Int[np.ndarray, " v"], keys: list[bytes], entries: Sequence[StoredFeatures]) -> None:
        """Adds features from a store."""
        self.from_store += len(entries)
        layers = [np.stack(parts) for parts in zip(*(entry.layers for entry in entries))]
        self.add(indices, keys, BatchFeatures(layers, np.stack([entry.image_feature for entry in entries])))

    def features(
        self,
        no_layers: list[Any],
        placement: Placement,
        skipped: list[tuple[int, str]],
        start: int,
    ) -> Features:
        """All features in the order of the sources; everything but the layers is gathered from all processes.

        `placement`, `skipped` and `start`, the index of the first source, are those of this process.
        """
        indices = np.concatenate(self.indices) if self.indices else np.zeros(0, int)
        order = np.argsort(indices)
        image_features = np.concatenate(
            [np.asarray(b.image_features)[: len(some)] for b, some in zip(self.batches, self.indices)]
            or [np.zeros((0, 0))]
        )
        copies = [(i + start, first + start) for i, first in self.copies]
        first = self._first_anywhere(indices[order] + start, [self.keys[i] for i in order])
        if (new := first == indices[order] + start).all():
            layers = self._layers(indices[order]) if len(indices) else no_layers
        else:
            # some of these images are copies of images of an earlier process
            copies += [(int(i), int(other)) for i, other in zip(indices[order][~new] + start, first[~new])]
            layers = [layer[new] for layer in self._layers(indices[order])]
            order = order[new]
        keys = [self.keys[i].hex() for i in order]
        kept = processes.gather_rows(indices[order] + start)
        sizes = processes.gather_rows(placement.sizes.reshape(-1, 2)[indices[order]])
        placement = replace(placement, sizes=sizes)
        if placement.frame.keeps_aspect:
            placement = placement.within(placement.frame.covered(placement.rects()))
        row_of = {source: row for row, source in enumerate(kept.tolist())}
        to_first = dict(pair for part in processes.gather(copies) for pair in part)
        return Features(
            layers,
            tuple(processes.gather(len(keys))),
            processes.gather_rows(image_features[order].astype(np.float32)),
            [bytes.fromhex(key) for part in processes.gather(keys) for key in part],
            kept,
            placement,
            [(i, why) for part in processes.gather(skipped) for i, why in part],
            sum(processes.gather(self.from_store)),
            # a copy of a copy: the original may belong to an earlier process
            tuple((i, row_of[to_first.get(first, first)]) for i, first in to_first.items()),
        )

    def _first_anywhere(self, sources: Int[np.ndarray, " k"], keys: list[bytes]) -> Int[np.ndarray, " k"]:
        """For each image of this process, the first source in any process with the same pixels."""
        if not self.once:
            return sources
        first: dict[str, int] = {}
        for part in processes.gather([(key.hex(), int(source)) for key, source in zip(keys, sources)]):
            for key, source in part:
                first.setdefault(key, source)
        return np.array([first[key.hex()] for key in keys], sources.dtype)

    def _layers(self, indices: Int[np.ndarray, " k"]) -> list[Any]:
        if self.buffer:
            return list(self.buffer.joined(indices))
        order = np.argsort([part[0] for part in self.indices])
        batches = [self.batches[i].layers for i in order]
        layers = []
        for number in range(len(batches[0])):
            parts = [layers_of_batch[number] for layers_of_batch in batches]
            on_host = all(isinstance(part, np.ndarray) for part in parts) and len(parts) > 0
            layers.append(np.concatenate(parts) if on_host else jnp.concatenate(parts))
            # free the parts, so that only one layer exists twice
            for layers_of_batch in batches:
                layers_of_batch[number] = None
            del parts
        return layers


def _missing(
    batches: ImageBatches | TokenBatches, stores: Sequence[FeatureStore], collected: _Collected, advance: Progress
) -> Iterator[_Batch]:
    """Full batches of the images that no store has; features from stores are added to `collected`."""
    indices: list[int] = []
    keys: list[bytes] = []
    waiting: np.ndarray | None = None
    for rows, images, valid in batches:
        batch_keys = [batches.keys[i] for i in rows.tolist()]
        new = [i for i, key in enumerate(batch_keys) if collected.is_new(int(rows[i]), key)]
        entries = dict(zip(new, _find(stores, [batch_keys[i] for i in new])))
        known = [i for i, entry in entries.items() if entry is not None]
        if known:
            stored = [entry for entry in entries.values() if entry is not None]
            collected.add_found(rows[known], [batch_keys[i] for i in known], stored)
        advance(valid - len(new) + len(known))
        if not known and not indices and len(new) == valid:
            yield _Batch(rows, batch_keys, images)
            continue
        for i in (i for i, entry in entries.items() if entry is None):
            if waiting is None:
                waiting = np.zeros_like(images)
            waiting[len(indices)] = images[i]
            indices.append(int(rows[i]))
            keys.append(batch_keys[i])
            if len(indices) == len(waiting):
                yield _Batch(np.array(indices), keys, waiting)
                # a new array: the transfer to the device may still read the last one
                indices, keys, waiting = [], [], None
    if waiting is not None:
        yield _Batch(np.array(indices), keys, waiting)


def _find(stores: Sequence[FeatureStore], keys: Sequence[bytes]) -> list[StoredFeatures | None]:
    """The features of each image from the first store that has it, otherwise None."""
    entries: list[StoredFeatures | None] = [None] * len(keys)
    for store in stores:
        entries = [known or stored for known, stored in zip(entries, store.find(keys))]
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
    sources: Sequence[Any], indices: Int[np.ndarray, " v"], finite: Bool[Array | np.ndarray, "*devices b"]
) -> None:
    """Waits for a batch and checks that its features are finite."""
    good = np.asarray(finite).ravel()[: len(indices)]
    if not good.all():
        index = indices[int(np.argmin(good))]
        raise NotFiniteError(f"{name_of(sources[index], index)}: the backbone gives features that are not finite")
