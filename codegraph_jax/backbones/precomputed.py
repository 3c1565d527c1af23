"""Stands for a backbone where tokens were computed elsewhere."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.backbones.protocol import LoadedBackbone
from codegraph_jax.core.errors import UserError

PRECOMPUTED = "precomputed"
"""Its name in `config.backbone.name`."""


@dataclass(frozen=True)
class PrecomputedBackbone:
    """Unpacks tokens that were computed elsewhere (`features.token_set`); see `LoadedBackbone`.

    Attributes:
        patches: number of patches of an image.
        widths: channels of each layer.
        patch_size: side in pixels that a patch stands for in the maps.
        discriminative: whether image features are given.
    """

    patches: int = 0
    widths: tuple[int, ...] = ()
    patch_size: int = 1
    discriminative: bool = False

    name, weights, resample, on_host, image_size = PRECOMPUTED, PRECOMPUTED, "bilinear", True, 1
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the layers."""
        return tuple(range(len(self.widths)))

    @property
    def width(self) -> int:
        """Channels of the widest layer."""
        return max(self.widths)

    @property
    def identity(self) -> dict[str, Any]:
        """See `LoadedBackbone`."""
        return {"weights": PRECOMPUTED}

    @property
    def variant(self) -> dict[str, Any]:
        """See `LoadedBackbone`."""
        return {}

    @property
    def fixed_settings(self) -> dict[str, Any]:
        """See `LoadedBackbone`."""
        return {"name": PRECOMPUTED}

    def __call__(self, images: Float[np.ndarray, "n k"]) -> tuple[list[Any], Any]:
        """The layers [n, p, c] and image features [n, d] of packed tokens."""
        ends = np.cumsum([self.patches * width for width in self.widths])
        *layers, image = np.split(images, ends, axis=1)
        layers = [layer.reshape(len(images), self.patches, -1) for layer in layers]
        return layers, image if self.discriminative else layers[-1].mean(axis=1)

    def flop(self, rows: int, columns: int) -> float:
        """1: reading tokens takes hardly any, and 0 stands for an unknown number."""
        return 1.0

    def portable(self) -> LoadedBackbone:
        """See `LoadedBackbone`."""
        raise UserError("precomputed features have no network to export")
