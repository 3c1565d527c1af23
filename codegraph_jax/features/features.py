"""The features of a set of images, as later stages use them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import InspectedArea, everything, inspected_patches
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.features.aggregation import similarity_weighted
from codegraph_jax.features.on_device import DeviceLayer, zero_outside


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of n images, and facts about their photos.

    Attributes:
        layers: patch tokens [k, p, c] of each layer for the k images of this process, normalised over each image
            (`aggregation.normalise`) and rounded to the type of the run: an array on the host, or a `DeviceLayer`.
        images_per_process: number of images of each process, in the order of the images.
        image_features: image features [n, d] for re-scoring.
        keys: digest of the preprocessed pixels of each image; equal for equal images, whatever their names.
        kept: source index of each image.
        placement: positions of the photos in their grids; tokens of patches that are not inspected are 0.
        unreadable: (source index, reason) of each source that could not be read.
        from_store_count: number of images whose features came from a store.
        copies: (source index, index among the n images) of each source that was left out because it has the same
            pixels as one of the images, if `extract` looked for copies.
        value_range: conversion of pixel values that do not have 8 bits.
        grey_levels: number of grey levels of photos with few of them (`data.blank_photos`), by source index.
        discriminative: whether image features distinguish images well enough for re-scoring.
        areas: inspected area of each image.
    """

    layers: list[Any]
    images_per_process: tuple[int, ...]
    image_features: Float[np.ndarray, "n d"]
    keys: list[bytes]
    kept: Int[np.ndarray, " n"]
    placement: Placement
    areas: Sequence[InspectedArea]
    unreadable: list[tuple[int, str]]
    from_store_count: int = 0
    copies: tuple[tuple[int, int], ...] = ()
    value_range: ValueRange | None = None
    grey_levels: Mapping[int, int] = field(default_factory=dict)
    discriminative: bool = True

    @property
    def local(self) -> range:
        """Indices of the images of this process."""
        rank = jax.process_index()
        start = sum(self.images_per_process[:rank])
        return range(start, start + self.images_per_process[rank])

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) in patches of each image."""
        return self.placement.frame.grid

    def set_size(self, source_count: int) -> int:
        """Number of images of the set, whose sources come before index `source_count`."""
        return int((self.kept < source_count).sum())

    def similarity_weighted(self, degrees: tuple[int, ...]) -> "Features":
        """The features with the tokens of each layer replaced by `aggregation.similarity_weighted`."""

        def weighted(layer: Any) -> Any:
            if isinstance(layer, DeviceLayer):
                return DeviceLayer(similarity_weighted(layer.values, degrees, self.grid), layer.count)
            out = np.empty(layer.shape, layer.dtype)
            for i in range(len(layer)):
                out[i] = similarity_weighted(jnp.asarray(layer[i : i + 1]), degrees, self.grid)[0]
            return out

        return replace(self, layers=[weighted(layer) for layer in self.layers])

    def select(self, images: Int[np.ndarray, " k"]) -> "Features":
        """The features of some images, and the copies of these, in a run with one process."""
        row_of = {image: row for row, image in enumerate(images.tolist())}
        return replace(
            self,
            layers=[np.asarray(layer[images]) for layer in self.layers],
            images_per_process=(len(images),),
            image_features=self.image_features[images],
            keys=[self.keys[i] for i in images],
            kept=self.kept[images],
            placement=self.placement.select(images),
            areas=[self.areas[i] for i in images],
            copies=tuple((source, row_of[image]) for source, image in self.copies if image in row_of),
        )

    def masked(self, areas: Sequence[InspectedArea], samples: Sequence[Sample]) -> "Features":
        """The features with all tokens outside of the inspected areas of the samples set to 0.

        Raises:
            ConfigError: nothing of a photo is inspected.
        """
        if all(area is everything for area in areas):
            return self
        names = [samples[i].path for i in self.kept]
        areas = [areas[i] for i in self.kept]
        placement = self.placement.within(inspected_patches(self.placement, areas, names))
        layers = self.layers
        if not placement.everything_inspected:
            layers = [zero_outside(layer, placement.inspected[self.local.start : self.local.stop]) for layer in layers]
        return replace(self, layers=layers, placement=placement, areas=areas)
