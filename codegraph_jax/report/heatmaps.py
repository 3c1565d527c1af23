"""Anomaly maps as pictures: the image with the map laid over it, on one scale for the whole run."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps
from PIL import Image

from codegraph_jax.scoring.maps import scale_ends

OPACITY = 0.7
"""Of the strongest colour; the rest of the image keeps its own in proportion."""
DIM = 80
"""Of 256: how bright what is not inspected stays."""
LEVELS = 64
"""Colours of a layer: more cannot be told apart over a photograph, and cost bytes."""


@dataclass(frozen=True)
class Scale:
    """Scores that are drawn as nothing and as full colour."""

    low: float
    high: float

    def strength(self, scores: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Scores as [0, 1]."""
        return np.clip((scores - np.float32(self.low)) / np.float32(self.high - self.low), 0, 1)


def run_scale(patch_scores: Sequence[Float[np.ndarray, "..."]], thresholds: Sequence[float] = ()) -> Scale:
    """One scale for all maps of a run, see `scoring.maps.scale_ends`."""
    return Scale(*scale_ends(np.concatenate([scores.ravel() for scores in patch_scores]), thresholds))


def _colours(levels: int) -> tuple[UInt8[np.ndarray, "levels 3"], Float[np.ndarray, " levels"]]:
    """Colour and opacity of equally spaced strengths."""
    strength = np.linspace(0.0, 1.0, levels)
    # opacity grows with the score, so that the part stays visible where nothing is wrong
    return colormaps["turbo"](strength, bytes=True)[:, :3], OPACITY * strength**0.75


def overlay(image: Image.Image, strength: Float[np.ndarray, "h w"]) -> Image.Image:
    """The image with a map in colour over it; a map without anomalies leaves the image as it is.

    Args:
        image: RGB; it is resized to the map.
        strength: the map in [0, 1], see `Scale.strength`.
    """
    height, width = strength.shape
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    colours, opacity = _colours(256)
    level = np.rint(strength * 255).astype(np.uint8)
    # in units of 1/256, so that a table and integers do: a picture has no more levels
    alpha = np.rint(256 * opacity).astype(np.uint16)
    mixed = pixels * (256 - alpha)[level][..., None] + (colours * alpha[:, None])[level] + np.uint16(128)
    return Image.fromarray((mixed >> 8).astype(np.uint8))


def dimmed(image: Image.Image, inspected: Bool[np.ndarray, "h w"] | None) -> Image.Image:
    """The image with what is not inspected darkened and without colour.

    Args:
        image: RGB.
        inspected: of any size of the same aspect; None: everything is.
    """
    if inspected is None:
        return image
    dark = image.convert("L").point([value * DIM // 256 for value in range(256)]).convert("RGB")
    mask = Image.fromarray(inspected.astype(np.uint8) * 255).resize(image.size, Image.Resampling.NEAREST)
    return Image.composite(image, dark, mask)


def layer_png(strength: Float[np.ndarray, "h w"]) -> bytes:
    """A map as a small PNG with transparency that a browser can lay over a photograph of any size."""
    colours, opacity = _colours(LEVELS)
    picture = Image.fromarray(np.rint(strength * (LEVELS - 1)).astype(np.uint8))
    picture.putpalette(colours.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=bytes(np.rint(255 * opacity).astype(np.uint8)))
    return stream.getvalue()
