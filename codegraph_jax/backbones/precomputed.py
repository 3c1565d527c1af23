"""Stands for a backbone where tokens were computed elsewhere."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.backbones.protocol import LoadedBackbone

PRECOMPUTED = "precomputed"
"""Its name in `config.backbone.name`."""


@dataclass(frozen=True, kw_only=True)
class PrecomputedBackbone(LoadedBackbone):
    """Unpacks tokens that were computed elsewhere (`features.token_set`).

    Attributes:
        patches: number of patches of an image.
    """

    patches: int

    @classmethod
    def of(
        cls, patches: int = 0, widths: tuple[int, ...] = (), patch_size: int = 1, has_image_features: bool = False
    ) -> "PrecomputedBackbone":
        """The backbone for tokens of this form; without arguments, for tokens that are given later.

        `patch_size` is the side in pixels that a patch stands for in the maps.
        """
        blocks = tuple(range(len(widths)))
        return cls(
            name=PRECOMPUTED, weights_name=PRECOMPUTED, patch_size=patch_size, mean=(0.0,) * 3, std=(1.0,) * 3,
            resample="bilinear", image_size=1, discriminative=has_image_features, blocks=blocks, widths=widths,
            on_host=True, patches=patches,
        )  # fmt: skip

    def __call__(self, images: Float[np.ndarray, "n k"]) -> tuple[list[Any], Any]:
        """The layers [n, p, c] and image features [n, d] of packed tokens."""
        ends = np.cumsum([self.patches * width for width in self.widths])
        *layers, image = np.split(images, ends, axis=1)
        layers = [layer.reshape(len(images), self.patches, -1) for layer in layers]
        return layers, image if self.discriminative else layers[-1].mean(axis=1)

    def flop(self, rows: int, columns: int) -> float:
        """1: reading tokens takes hardly any, and 0 stands for an unknown number."""
        return 1.0
