"""The interface of feature stores: the feature cache, the state of an interrupted run, and the buffer of a run."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Int


class BatchFeatures(NamedTuple):
    """Features of v images.

    Attributes:
        layers: for each layer the normalised patch tokens [v, p, c], on a device or on the host.
        image_features: [v, d], float32.
    """

    layers: list[Any]
    image_features: Any


class ImageFeatures(NamedTuple):
    """Features of one image on the host.

    Attributes:
        layers: for each layer the normalised patch tokens [p, c].
        image_feature: [d], float32.
    """

    layers: list[np.ndarray]
    image_feature: np.ndarray


class FeatureStore(Protocol):
    """Finds features that were computed earlier, and stores new ones."""

    def find(self, keys: Sequence[bytes]) -> list[ImageFeatures | None]:
        """The stored features of the images with these keys (`data.batches.image_key`), None for missing ones."""

    def keep(self, places: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Stores the features of images, given their indices in the run and their keys."""
