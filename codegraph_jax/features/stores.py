"""The interface of feature stores (the cache, the state of an interrupted run), and the buffer of a run."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Int
from numpy.typing import DTypeLike

from codegraph_jax.core.mapped_arrays import Allocate, in_memory


class BatchFeatures(NamedTuple):
    """Features of a batch of b images; those after the first v are padding.

    Attributes:
        layers: for each layer the normalised patch tokens [b, p, c], on a device or on the host.
        image_features: [b, d], float32.
    """

    layers: list[Any]
    image_features: Any


class StoredFeatures(NamedTuple):
    """Features of one image from a feature store.

    Attributes:
        layers: for each layer the normalised patch tokens [p, c].
        image_feature: [d], float32.
    """

    layers: list[np.ndarray]
    image_feature: np.ndarray


class FeatureStore(Protocol):
    """Loads features that were computed earlier, and stores new ones."""

    def load(self, keys: Sequence[bytes]) -> list[StoredFeatures | None]:
        """The stored features of the images with these keys (`data.batches.image_key`), None for missing ones."""

    def save(self, indices: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Stores the features of images, given their indices in the run and their keys."""


class FeatureBuffer:
    """Collects the layers of a run, image by image in any order, in one array per layer, in memory or on disk.

    Args:
        shape: shape [n, p, c] of a layer for the greatest number of images n.
        layer_count: number of layers.
        dtype: type of the tokens.
        allocate: allocates the array of a layer.
    """

    def __init__(self, shape: tuple[int, int, int], layer_count: int, dtype: DTypeLike, allocate: Allocate = in_memory):
        self._layers = [allocate(shape, dtype) for _ in range(layer_count)]

    def add(self, indices: Int[np.ndarray, " v"], layers: Sequence[Any]) -> None:
        """Adds the first v images of a batch [b, p, c] at `indices`."""
        for stored, layer in zip(self._layers, layers):
            stored[indices] = np.asarray(layer[: len(indices)])

    def keep(self, indices: Int[np.ndarray, " k"]) -> list[np.ndarray]:
        """Keeps only the images at `indices` (ascending), moved to the front of the arrays, and returns the layers."""
        for stored in self._layers:
            for position, index in enumerate(indices):
                if position < index:
                    stored[position] = stored[index]
        return [stored[: len(indices)] for stored in self._layers]
