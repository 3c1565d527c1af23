"""Light and camera: a lit `Surface` becomes a photograph."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from codegraph_jax.data.drawing.part import OUTER, Grid, Surface, smooth_noise

_MAT = np.array([0.115, 0.125, 0.145], np.float32)


@dataclass(frozen=True)
class Light:
    """One lamp and what the camera makes of it."""

    azimuth: float = np.pi * 1.25
    """Radians in the image, clockwise from the right: where the lamp stands."""
    elevation: float = 0.9
    strength: float = 1.0
    falloff: float = 0.12
    """Share of the light that is lost from the lamp's side of the image to its other side."""
    warmth: float = 0.0
    """Added to red and taken from blue, as a share."""
    blur: float = 0.6
    """Standard deviation of the camera's blur in pixels at a side of 448."""
    noise: float = 0.008
    """Standard deviation of the sensor's noise."""


def photograph(surface: Surface, light: Light, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Lights the surface, adds the mat that it lies on, and takes the picture."""
    size = surface.pose.size
    azimuth = light.azimuth - surface.pose.angle
    across = np.array([np.cos(azimuth), np.sin(azimuth)], np.float32)
    lamp = np.float32(np.cos(light.elevation)) * across
    height = np.float32(np.sin(light.elevation))

    image = _lit_part(surface, lamp, height)
    mat = _mat(surface, across, rng)
    part = surface.part[..., None]
    image = mat + part * (image - mat)
    for window, opacity, colour in surface.overlays:
        image[window] += opacity[..., None] * (colour - image[window])

    toward = surface.u * across[0] + surface.v * across[1]
    exposure = np.float32(light.strength) * (1 + np.float32(light.falloff / 2) * toward)
    tint = np.array([1 + light.warmth, 1.0, 1 - light.warmth], np.float32)
    image *= exposure[..., None]
    image *= tint
    sigma = light.blur * size / 448
    if sigma > 0.1:
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=2.5)
    # grey noise with a little colour in it
    image += rng.standard_normal((size, size, 1), np.float32) * np.float32(light.noise)
    image += rng.standard_normal((size, size, 3), np.float32) * np.float32(light.noise / 2)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _lit_part(surface: Surface, lamp: np.ndarray, height: np.float32) -> np.ndarray:
    """Diffuse light, mirror-like highlights on slopes, and the bow-tie that turning marks draw out."""
    length = 1 / np.sqrt(1 + surface.slope_u**2 + surface.slope_v**2)
    # an inward slope turns the normal outward: n = (slope, 1) where a positive slope falls away from the centre
    facing = (surface.slope_u * lamp[0] + surface.slope_v * lamp[1] + height) * length
    diffuse = np.float32(0.30) + np.float32(0.62) * np.maximum(facing, 0)

    half = np.array([lamp[0], lamp[1], height + 1], np.float32)
    half /= np.linalg.norm(half)
    mirror = _power(np.maximum((surface.slope_u * half[0] + surface.slope_v * half[1] + half[2]) * length, 0), 40)

    # Kajiya and Kay's highlight of fibres, with the grooves as fibres: where they run across the lamp's direction
    radius = np.maximum(np.hypot(surface.u, surface.v), np.float32(1e-3))
    along = (half[1] * surface.u - half[0] * surface.v) / radius
    groove = (surface.slope_u * surface.u + surface.slope_v * surface.v) / radius
    bow_tie = _power(1 - along**2, 22) * (1 + np.float32(5) * groove)
    shine = surface.gloss * (np.float32(0.34) * mirror + np.float32(0.27) * surface.grain * np.maximum(bow_tie, 0))
    return surface.colour * diffuse[..., None] + shine[..., None]


def _power(base: Grid, exponent: int) -> Grid:
    """By squaring: numpy's power is ten times slower, and this is half of the picture's time."""
    result = np.ones_like(base)
    while exponent:
        if exponent & 1:
            result *= base
        base = base * base
        exponent >>= 1
    return result


def _mat(surface: Surface, across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A dark rubber mat with the part's soft shadow on the side away from the lamp."""
    size = surface.pose.size
    u, v = surface.u + np.float32(0.05) * across[0], surface.v + np.float32(0.05) * across[1]
    gap = np.hypot(u, v) - np.float32(OUTER)
    shadow: Grid = 1 - np.float32(0.62) * np.clip(0.5 - gap / np.float32(0.12), 0, 1)
    texture = 1 + smooth_noise(rng, 12, size) * np.float32(0.05)
    texture += smooth_noise(rng, size // 3, size) * np.float32(0.07)
    # below the part the shadow does not matter; in its holes only `deep` counts
    shade = np.where(surface.deep < 1, surface.deep * np.float32(0.9), shadow)
    return (texture * shade)[..., None] * _MAT
