"""The image set of the demo: shapes and textures in classes, drawn in about a second.

The OE classes are drawn by other functions than the eight test classes, so that no OE image resembles a test anomaly.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from codegraph_jax.data.search import LayoutError
from contrastive_jax.data.image_set import ImageSet

Coordinates = tuple[np.ndarray, np.ndarray]
Pattern = Callable[[np.random.Generator, np.ndarray, np.ndarray], Float[np.ndarray, "s s"]]


def _disc(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = rng.uniform(0.35, 0.65, 2)
    return np.clip((rng.uniform(0.22, 0.36) - np.hypot(y - cy, x - cx)) * 16 + 0.5, 0, 1)


def _ring(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = rng.uniform(0.4, 0.6, 2)
    return np.clip(1 - np.abs(np.hypot(y - cy, x - cx) - rng.uniform(0.22, 0.36)) * 12, 0, 1)


def _square(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = rng.uniform(0.35, 0.65, 2)
    u, v = _rotated(rng.uniform(0, np.pi / 2), y - cy, x - cx)
    return np.clip((rng.uniform(0.18, 0.3) - np.maximum(np.abs(u), np.abs(v))) * 16 + 0.5, 0, 1)


def _cross(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = rng.uniform(0.4, 0.6, 2)
    u, v = _rotated(rng.uniform(0, np.pi / 2), y - cy, x - cx)
    arm = np.minimum(np.abs(u), np.abs(v))
    return np.clip((rng.uniform(0.05, 0.09) - arm) * 16 + 0.5, 0, 1)


def _triangle(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = rng.uniform(0.4, 0.6, 2)
    start = rng.uniform(0, 2 * np.pi)
    sides = [_rotated(start + k * 2 * np.pi / 3, y - cy, x - cx)[0] for k in range(3)]
    return np.clip((rng.uniform(0.13, 0.2) - np.max(sides, axis=0)) * 16 + 0.5, 0, 1)


def _bar(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    u, _ = _rotated(rng.uniform(0, np.pi), y - 0.5, x - 0.5)
    return np.clip((rng.uniform(0.06, 0.14) - np.abs(u - rng.uniform(-0.15, 0.15))) * 16 + 0.5, 0, 1)


def _dots(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    near = np.full(y.shape, np.inf)
    for cy, cx in rng.uniform(0.1, 0.9, (rng.integers(4, 8), 2)):
        near = np.minimum(near, np.hypot(y - cy, x - cx))
    return np.clip((0.09 - near) * 16 + 0.5, 0, 1)


def _crescent(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    radius = rng.uniform(0.28, 0.38)
    whole = np.hypot(y - 0.5, x - 0.5)
    bite = np.hypot(y - 0.5 - 0.5 * radius * np.sin(angle), x - 0.5 - 0.5 * radius * np.cos(angle))
    return np.clip(np.minimum(radius - whole, bite - 0.8 * radius) * 16 + 0.5, 0, 1)


def _stripes(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    u, _ = _rotated(rng.uniform(0, np.pi), y, x)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (u * rng.uniform(2, 5) + rng.uniform()))


def _checks(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    u, v = _rotated(rng.uniform(0, np.pi / 2), y, x)
    waves = np.sin(2 * np.pi * u * rng.uniform(1.5, 4)) * np.sin(2 * np.pi * v * rng.uniform(1.5, 4))
    return np.clip(0.5 + 2 * waves, 0, 1)


def _clouds(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    field = sum(
        np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in zip(*rng.uniform(-4, 4, (2, 6)), rng.uniform(0, 1, 6))
    )
    return 0.5 + 0.5 * np.tanh(field / 2)


def _noise(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return rng.uniform(0, 1, y.shape)


def _slope(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    u, _ = _rotated(rng.uniform(0, 2 * np.pi), y - 0.5, x - 0.5)
    return np.clip(0.5 + u * rng.uniform(0.5, 2), 0, 1)


def _waves(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = rng.uniform(-0.2, 1.2, 2)
    return 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 6) * np.hypot(y - cy, x - cx))


SHAPES: dict[str, Pattern] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "cross": _cross,
    "triangle": _triangle,
    "bar": _bar,
    "dots": _dots,
    "crescent": _crescent,
}
"""The classes of `train` and `test`: one is normal, the others are the anomalies of the test."""
TEXTURES: dict[str, Pattern] = {
    "stripes": _stripes,
    "checks": _checks,
    "clouds": _clouds,
    "noise": _noise,
    "slope": _slope,
    "waves": _waves,
}
"""The classes of `oe`."""
IMAGES_PER_CLASS = {"train": 384, "test": 64, "oe": 256}
"""Number of images of each class by split."""


def draw_patterns(split: str, size: int) -> ImageSet:
    """Draws a split of labelled images: `SHAPES` (`train`, `test`) or `TEXTURES` (`oe`).

    Position, size, angle, the two colours and the noise are random in each image, from a fixed seed: the same split and
    size give the same bytes.

    Raises:
        LayoutError: there is no such split.
    """
    if split not in IMAGES_PER_CLASS:
        raise LayoutError(f"patterns: there is no split {split!r}; splits: {', '.join(IMAGES_PER_CLASS)}")
    classes = TEXTURES if split == "oe" else SHAPES
    rng = np.random.default_rng([2312, 15288, list(IMAGES_PER_CLASS).index(split)])
    axis = (np.arange(size) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    count = IMAGES_PER_CLASS[split]
    images = np.stack([_coloured(rng, draw(rng, y, x)) for draw in classes.values() for _ in range(count)])
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), count)
    return ImageSet(images, labels, tuple(classes))


def _rotated(angle: float, y: np.ndarray, x: np.ndarray) -> Coordinates:
    return np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y


def _coloured(rng: np.random.Generator, shape: Float[np.ndarray, "s s"]) -> UInt8[np.ndarray, "s s 3"]:
    """The pattern as a blend of two colours of clearly different lightness, with sensor noise."""
    dark, light = rng.uniform(0, 0.45, 3), rng.uniform(0.55, 1, 3)
    front, back = (dark, light) if rng.uniform() < 0.5 else (light, dark)
    pixels = shape[..., None] * front + (1 - shape[..., None]) * back + rng.normal(0, 0.03, (*shape.shape, 3))
    return np.clip(pixels * 255, 0, 255).astype(np.uint8)
