"""Collects the features of a run in arrays that the memory plan allocates, in memory or on disk."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.features.stores import BatchFeatures, ImageFeatures


class FeatureBuffer:
    """A feature store that collects the layers of a run, image by image in any order, in one array per layer.

    Args:
        allocate: allocates the array of a layer.
        images: greatest number of images.
    """

    def __init__(self, allocate: Allocate, images: int):
        self._allocate, self._images = allocate, images
        self._layers: list[np.ndarray] = []

    def find(self, keys: Sequence[bytes]) -> list[ImageFeatures | None]:
        """None for every key: the buffer holds nothing from earlier runs."""
        return [None] * len(keys)

    def keep(self, places: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Stores the layers of some images at their places."""
        if not self._layers:
            self._layers = [self._allocate((self._images, *layer.shape[1:]), layer.dtype) for layer in features.layers]
        for stored, layer in zip(self._layers, features.layers):
            stored[places] = np.asarray(layer)

    def joined(self, places: Int[np.ndarray, " k"]) -> list[np.ndarray]:
        """The layers of the images at `places` (ascending), moved to the front of the stored arrays in place."""
        for stored in self._layers:
            for to, place in enumerate(places):
                if to < place:
                    stored[to] = stored[place]
        return [stored[: len(places)] for stored in self._layers]
