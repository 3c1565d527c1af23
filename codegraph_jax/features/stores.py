"""What a place must do that has the features of images already, or keeps them for later."""

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
    """A place that may have the features of images already, or keeps those that are computed.

    The feature cache, the state of an interrupted run and the buffer of a run are such places.
    """

    def find(self, keys: Sequence[bytes]) -> list[ImageFeatures | None]:
        """What the place has of the images with these keys (`data.batches.image_key`), None for those that it lacks."""

    def keep(self, places: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Takes the features of images, known by their places in the run and by their keys."""
