"""Heat maps: images with the anomaly map in colour over them, on one scale for the whole run."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps
from PIL import Image

from codegraph_jax.scoring.maps import scale_ends

OPACITY = 0.7
"""Opacity of the strongest colour."""
DIM = 80
"""Brightness of regions that are not inspected, of 256."""
LEVELS = 64
"""Number of colours of an anomaly map; more are not distinguishable over a photo and make files larger."""


@dataclass(frozen=True)
class Scale:
    """Scores that are drawn without colour and in full colour."""

    low: float
    high: float

    @classmethod
    def of(cls, patch_scores: Sequence[Float[np.ndarray, "..."]], thresholds: Sequence[float] = ()) -> "Scale":
        """One scale for all maps of a run, see `scoring.maps.scale_ends`."""
        return cls(*scale_ends(np.concatenate([scores.ravel() for scores in patch_scores]), thresholds))

    def strength(self, scores: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Scores scaled and clipped to [0, 1]."""
        return np.clip((scores - np.float32(self.low)) / np.float32(self.high - self.low), 0, 1)


def _colours(levels: int) -> tuple[UInt8[np.ndarray, "levels 3"], Float[np.ndarray, " levels"]]:
    """Colour and opacity of equally spaced strengths."""
    strength = np.linspace(0.0, 1.0, levels)
    # opacity grows with the score, so that the part stays visible where scores are low
    return colormaps["turbo"](strength, bytes=True)[:, :3], OPACITY * strength**0.75


def overlay(image: Image.Image, strength: Float[np.ndarray, "h w"]) -> Image.Image:
    """The image with a map in colour over it; where the map is 0, the image is unchanged.

    Args:
        image: RGB; it is resized to the map.
        strength: the map in [0, 1], see `Scale.strength`.
    """
    height, width = strength.shape
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    colours, opacity = _colours(256)
    level = np.rint(strength * 255).astype(np.uint8)
    # integers in units of 1/256 are exact enough for 8 bits, and faster than floats
    alpha = np.rint(256 * opacity).astype(np.uint16)
    mixed = pixels * (256 - alpha)[level][..., None] + (colours * alpha[:, None])[level] + np.uint16(128)
    return Image.fromarray((mixed >> 8).astype(np.uint8))


def dimmed(image: Image.Image, inspected: Bool[np.ndarray, "h w"]) -> Image.Image:
    """The image with regions that are not inspected darkened and without colour.

    Args:
        image: RGB image.
        inspected: mask of any size with the same aspect ratio.
    """
    if inspected.all():
        return image
    dark = image.convert("L").point([value * DIM // 256 for value in range(256)]).convert("RGB")
    mask = Image.fromarray(inspected.astype(np.uint8) * 255).resize(image.size, Image.Resampling.NEAREST)
    return Image.composite(image, dark, mask)


def anomaly_png(strength: Float[np.ndarray, "h w"]) -> bytes:
    """A map as a small transparent PNG, which a browser can lay over a photo of any size."""
    colours, opacity = _colours(LEVELS)
    picture = Image.fromarray(np.rint(strength * (LEVELS - 1)).astype(np.uint8))
    picture.putpalette(colours.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=bytes(np.rint(255 * opacity).astype(np.uint8)))
    return stream.getvalue()
