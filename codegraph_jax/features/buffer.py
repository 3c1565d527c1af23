"""The features of a run, put together image by image where the memory plan has them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from codegraph_jax.core.arrays import Allocate
from codegraph_jax.features.stores import BatchFeatures, ImageFeatures


class FeatureBuffer:
    """A feature store that takes the layers of the images of a run, in any order, and gives each back as one array."""

    def __init__(self, allocate: Allocate, images: int):
        """
        Args:
            allocate: makes the array of a layer.
            images: of the run, at most.
        """
        self._allocate, self._images = allocate, images
        self._layers: list[np.ndarray] = []

    def find(self, keys: Sequence[bytes]) -> list[ImageFeatures | None]:
        """Nothing: it is filled by the run that it belongs to."""
        return [None] * len(keys)

    def keep(self, places: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Stores the layers of some images at their places."""
        if not self._layers:
            self._layers = [self._allocate((self._images, *layer.shape[1:]), layer.dtype) for layer in features.layers]
        for stored, layer in zip(self._layers, features.layers):
            stored[places] = np.asarray(layer)

    def joined(self, places: Int[np.ndarray, " k"]) -> list[np.ndarray]:
        """Every layer, of the images at these places, which ascend; the others are lost."""
        for stored in self._layers:
            for to, place in enumerate(places):
                if to < place:
                    stored[to] = stored[place]
        return [stored[: len(places)] for stored in self._layers]
