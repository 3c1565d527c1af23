"""Draws a turned steel flange with hub, bore, keyway and six countersunk bolt holes, seen from above.

Coordinates (u, v) belong to the part: u points right, v down, and half the side of the image is 1. A `Surface` has the
properties of each pixel for the lighting. Defects change it before it is lit, so that they are lit like the part.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

OUTER, HUB, BORE = 0.80, 0.46, 0.23
BOLT_CIRCLE, BOLT, COUNTERSINK = 0.63, 0.068, 0.026
BOLT_ANGLES = np.radians(np.arange(6) * 60.0 + 30.0)
_CHAMFER = 0.022
_STEEL = np.array([0.60, 0.615, 0.64], np.float32)
_MARKS = 4096

Grid = Float[np.ndarray, "h w"]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Pose:
    """The position of the part in an image of `size` pixels a side."""

    size: int
    shift: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    """Radians."""
    scale: float = 1.0

    def grid(self) -> tuple[Grid, Grid]:
        """Coordinates (u, v) of the centre of every pixel."""
        axis = ((np.arange(self.size, dtype=np.float32) + 0.5) * (2 / self.size) - 1).astype(np.float32)
        x, y = (axis - self.shift[0])[None, :], (axis - self.shift[1])[:, None]
        cos, sin = np.float32(np.cos(self.angle) / self.scale), np.float32(np.sin(self.angle) / self.scale)
        return cos * x + sin * y, cos * y - sin * x

    def window(self, u: float, v: float, radius: float) -> Window:
        """The pixels within `radius` of (u, v), as slices; empty outside of the image."""
        cos, sin = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        x, y = cos * u - sin * v + self.shift[0], sin * u + cos * v + self.shift[1]
        reach = radius * self.scale
        low = [max(0, int((c - reach + 1) / 2 * self.size)) for c in (y, x)]
        high = [max(0, min(self.size, int((c + reach + 1) / 2 * self.size) + 2)) for c in (y, x)]
        return slice(low[0], high[0]), slice(low[1], high[1])

    @property
    def pixel(self) -> float:
        """Side of a pixel in the coordinates of the part."""
        return 2 / self.size / self.scale

    def inside(self, distance: Grid) -> Grid:
        """The share of each pixel inside an outline, from signed distances (negative inside)."""
        return np.clip(0.5 - distance / np.float32(self.pixel), 0, 1)


@dataclass
class Surface:
    """Properties of each pixel for the lighting."""

    pose: Pose
    u: Grid
    v: Grid
    part: Grid
    """Share of the pixel that the part covers."""
    slope_u: Grid
    slope_v: Grid
    colour: Float[np.ndarray, "h w 3"]
    gloss: Grid
    """Strength of highlights."""
    grain: Grid
    """Strength of the bow-tie highlight of turned faces."""
    deep: Grid
    """Share of light that reaches the background, which is small at the bottom of a hole."""
    overlays: list[tuple[Window, Grid, Float[np.ndarray, " 3"]]]
    """(window, opacity, colour) of objects on top of the part, such as fibres."""


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Grid:
    """Smooth noise [size, size], interpolated from `cells` x `cells` random values of unit variance."""
    knots = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(knots.resize((size, size), Image.Resampling.BICUBIC))


def machine_part(pose: Pose, rng: np.random.Generator, missing_hole: int | None = None) -> Surface:
    """A part without defects, with random turning marks and tints.

    Args:
        pose: position of the part.
        rng: random numbers.
        missing_hole: index of a bolt hole that is left out.
    """
    u, v = pose.grid()
    radius = np.hypot(u, v)
    safe = np.maximum(radius, np.float32(1e-3))
    slope = _turning_marks(rng, radius, u, v)
    # conical faces: the outer chamfer and the step of the hub fall outwards, the chamfer of the bore inwards
    for edge, width, steep in ((OUTER, _CHAMFER, 0.9), (HUB, 0.016, 1.5), (BORE + _CHAMFER, _CHAMFER, -0.9)):
        cone = pose.inside(radius - np.float32(edge)) - pose.inside(radius - np.float32(edge - width))
        slope += cone * np.float32(steep)

    hub = pose.inside(radius - np.float32(HUB))
    mottle = smooth_noise(rng, 9, pose.size) * np.float32(0.018)
    shade = np.float32(rng.normal(1.0, 0.015)) + mottle + hub * np.float32(0.05)
    # a darker corner at the foot of the hub
    shade -= np.float32(0.22) * np.exp(-(((radius - np.float32(HUB + 0.008)) / np.float32(0.011)) ** 2))
    surface = Surface(
        pose, u, v,
        part=pose.inside(radius - np.float32(OUTER)),
        slope_u=slope * (u / safe), slope_v=slope * (v / safe),
        colour=shade[..., None] * _STEEL,
        gloss=0.9 + smooth_noise(rng, 6, pose.size) * np.float32(0.06),
        grain=np.ones_like(radius), deep=np.ones_like(radius), overlays=[],
    )  # fmt: skip

    # the background is visible through the bore with its keyway and through the holes
    keyway = np.maximum(np.abs(u) - np.float32(0.048), np.abs(v + np.float32(BORE)) - np.float32(0.075))
    _cut(surface, (slice(None), slice(None)), np.minimum(radius - np.float32(BORE), keyway), 0.55)
    for i, angle in enumerate(BOLT_ANGLES):
        if i != missing_hole:
            _drill(surface, BOLT_CIRCLE * np.cos(angle), BOLT_CIRCLE * np.sin(angle), BOLT, COUNTERSINK)
    _drill(surface, BOLT_CIRCLE, 0.0, 0.022, 0.008)
    return surface


def _turning_marks(rng: np.random.Generator, radius: Grid, u: Grid, v: Grid) -> Grid:
    """Radial slope of the fine grooves from turning: periodic feed marks and noise."""
    r = np.linspace(0, 1.6, _MARKS, dtype=np.float32)
    fine = rng.standard_normal(_MARKS).astype(np.float32)
    coarse = np.interp(r, np.linspace(0, 1.6, 160), rng.standard_normal(160)).astype(np.float32)
    feed = np.sin(r * np.float32(2 * np.pi / 0.021) + np.float32(rng.uniform(0, 6.3)))
    marks = np.float32(0.022) * feed + np.float32(0.035) * np.convolve(fine, np.ones(9) / 9, "same") * 3
    marks = (marks + np.float32(0.025) * coarse).astype(np.float32)
    # the marks are slightly off centre
    off_u, off_v = rng.normal(0, 0.004, 2).astype(np.float32)
    index = np.clip((radius + off_u * u + off_v * v) * np.float32(_MARKS / 1.6), 0, _MARKS - 1)
    return marks[index.astype(np.int32)]


def _drill(surface: Surface, u: float, v: float, hole: float, sink: float) -> None:
    window = surface.pose.window(u, v, hole + sink + 3 * surface.pose.pixel)
    du, dv = surface.u[window] - np.float32(u), surface.v[window] - np.float32(v)
    distance = np.hypot(du, dv)
    cone = surface.pose.inside(distance - np.float32(hole + sink))
    steep = np.float32(-0.75) / np.maximum(distance, np.float32(1e-3))
    surface.slope_u[window] += cone * (du * steep - surface.slope_u[window])
    surface.slope_v[window] += cone * (dv * steep - surface.slope_v[window])
    surface.grain[window] *= 1 - cone
    _cut(surface, window, distance - np.float32(hole), 0.22)


def _cut(surface: Surface, window: Window, distance: Grid, light: float) -> None:
    """Cuts a hole where `distance` is negative; a share `light` of the light reaches its ground, less near the wall."""
    hole = surface.pose.inside(distance)
    surface.part[window] *= 1 - hole
    wall = np.float32(0.45) + np.float32(0.55) * np.clip(-distance / np.float32(0.06), 0, 1)
    surface.deep[window] *= 1 - hole * (1 - np.float32(light) * wall)
