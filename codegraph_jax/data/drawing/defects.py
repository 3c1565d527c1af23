"""Draws defects of machined parts: each changes a `Surface` before it is lit, and has an exact mask.

The appearance depends only on the `Defect`: the same `shape` seed gives the same crack at any place. Thus a defect can
recur on other parts with small deviations of place, angle and size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from codegraph_jax.data.drawing.part import BOLT, BOLT_ANGLES, BOLT_CIRCLE, COUNTERSINK, OUTER, Grid, Surface, Window

Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Defect:
    """One defect of a part, in the coordinates of the part."""

    kind: str
    u: float
    v: float
    angle: float
    """Radians; defects without a direction ignore it."""
    size: float = 1.0
    """Size relative to the usual size of the kind."""
    depth: float = 1.0
    """Strength relative to the usual strength."""
    shape: int = 0
    """Seed of its outline."""
    hole: int | None = None
    """Index of the bolt hole that is missing."""


def apply_defect(surface: Surface, defect: Defect) -> Mask:
    """Draws the defect into the surface, and returns the mask of the visible pixels whose centres it covers."""
    mask = np.zeros(surface.u.shape, bool)
    DEFECTS[defect.kind](surface, defect, np.random.default_rng(defect.shape), mask)
    return mask


def _local(surface: Surface, defect: Defect, radius: float) -> tuple[Window, Grid, Grid]:
    """The window around the defect, and coordinates along the defect's angle and across it."""
    window = surface.pose.window(defect.u, defect.v, radius + 2 * surface.pose.pixel)
    du, dv = surface.u[window] - np.float32(defect.u), surface.v[window] - np.float32(defect.v)
    cos, sin = np.float32(np.cos(defect.angle)), np.float32(np.sin(defect.angle))
    return window, cos * du + sin * dv, cos * dv - sin * du


def _add_slope(surface: Surface, window: Window, defect: Defect, along: Grid, across: Grid) -> None:
    """Adds a slope that is given along and across the defect's angle."""
    cos, sin = np.float32(np.cos(defect.angle)), np.float32(np.sin(defect.angle))
    surface.slope_u[window] += cos * along - sin * across
    surface.slope_v[window] += sin * along + cos * across


def _path_distance(a: Grid, b: Grid, points: np.ndarray) -> tuple[Grid, Grid, Grid]:
    """Distance to a polyline, signed distance across its nearest segment, and position along it from 0 to 1."""
    best = np.full(a.shape, np.inf, np.float32)
    side, fraction = np.zeros_like(best), np.zeros_like(best)
    count = len(points) - 1
    for i, (start, end) in enumerate(zip(points[:-1], points[1:], strict=True)):
        step = (end - start).astype(np.float32)
        length = float(np.hypot(*step))
        da, db = a - np.float32(start[0]), b - np.float32(start[1])
        t = np.clip((da * step[0] + db * step[1]) / np.float32(length**2), 0, 1)
        distance = np.hypot(da - t * step[0], db - t * step[1])
        nearer = distance < best
        best = np.where(nearer, distance, best)
        side = np.where(nearer, (step[0] * db - step[1] * da) / np.float32(length), side)
        fraction = np.where(nearer, (i + t) / np.float32(count), fraction)
    return best, side, fraction


def _blob(rng: np.random.Generator, a: Grid, b: Grid, radius: float, rough: float) -> Grid:
    """Approximate signed distance to an irregular closed outline around the origin."""
    angle = np.arctan2(b, a)
    outline = np.ones_like(angle)
    for k in range(2, 8):
        outline += np.float32(rough * rng.normal() / k) * np.cos(k * angle + np.float32(rng.uniform(0, 6.3)))
    return np.hypot(a, b) - np.float32(radius) * np.maximum(outline, np.float32(0.35))


def _scratch(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """A slightly curved groove with a raised lip that fades at both ends."""
    half = 0.21 * defect.size
    window, a, b = _local(surface, defect, half + 0.1)
    t = np.linspace(-1, 1, 15)
    bend = rng.choice([-1, 1]) * rng.uniform(0.02, 0.07) * (1 - t**2) + 0.0012 * rng.standard_normal(15)
    distance, side, fraction = _path_distance(a, b, np.stack([half * t, bend], axis=1))
    width = np.float32(0.0085) * (np.float32(0.45) + np.float32(0.55) * np.sin(np.float32(np.pi) * fraction))
    profile = np.exp(-((distance / width) ** 2)) * np.float32(defect.depth)
    _add_slope(surface, window, defect, np.zeros_like(a), np.float32(-2.2) * profile * side / width)
    surface.colour[window] *= (1 + np.float32(0.25) * profile)[..., None]
    surface.grain[window] *= 1 - np.clip(profile, 0, 1)
    mask[window] = (distance < 1.35 * width) & (surface.part[window] > 0.5)


def _dent(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """A smooth dent, a little longer than wide."""
    long, wide = 0.082 * defect.size, 0.082 * defect.size * rng.uniform(0.65, 0.95)
    window, a, b = _local(surface, defect, long)
    square = (a / np.float32(long)) ** 2 + (b / np.float32(wide)) ** 2
    inside = np.clip(1 - square, 0, 1)
    # the depth is (1 - r^2)^2, which has a smooth rim
    fall = np.float32(-1.9 * defect.depth) * inside * 1.3
    _add_slope(surface, window, defect, fall * a / np.float32(long), fall * b / np.float32(wide))
    surface.colour[window] *= (1 - np.float32(0.12) * inside)[..., None]
    mask[window] = (square < 1) & (surface.part[window] > 0.5)


def _stain(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """Dried coolant or oil: an irregular brownish patch with a darker border."""
    radius = 0.10 * defect.size
    window, a, b = _local(surface, defect, 2 * radius)
    distance = _blob(rng, a, b, radius, 0.35)
    cover = np.clip(0.5 - distance / np.float32(2.5 * surface.pose.pixel), 0, 1) * np.float32(0.75 * defect.depth)
    border = np.exp(-((distance / np.float32(0.012)) ** 2)) * np.float32(0.3)
    hue = np.array(rng.choice([(0.78, 0.64, 0.46), (0.60, 0.56, 0.55), (0.74, 0.56, 0.44)]), np.float32)
    opacity = np.clip(cover + border * cover, 0, 1)[..., None]
    surface.colour[window] *= 1 - opacity * (1 - hue)
    surface.gloss[window] *= 1 - np.float32(0.75) * opacity[..., 0]
    mask[window] = (distance < 0) & (surface.part[window] > 0.5)


def _chip(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """A piece broken out of the rim, with a rough and shiny fracture."""
    radius = 0.088 * defect.size
    window, a, b = _local(surface, defect, 2 * radius)
    whole = surface.part[window] > 0.5
    distance = _blob(rng, a, b, radius, 0.30)
    rough = np.sin(a * np.float32(rng.uniform(150, 260))) * np.cos(b * np.float32(rng.uniform(150, 260)) + a * 90)
    fracture = surface.pose.inside(distance)
    outward = np.maximum(np.hypot(surface.u[window], surface.v[window]), np.float32(1e-3))
    for slope, axis in ((surface.slope_u, surface.u), (surface.slope_v, surface.v)):
        steep = np.float32(0.8) * axis[window] / outward + np.float32(0.55) * rough
        slope[window] += fracture * (steep - slope[window])
    surface.grain[window] *= 1 - fracture
    surface.colour[window] *= (1 - np.float32(0.15) * fracture)[..., None]
    # inside, the material is missing
    surface.part[window] *= 1 - surface.pose.inside(distance + np.float32(0.36 * radius))
    mask[window] = (distance < 0) & whole


def _missing_hole(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """The punch mark of a bolt hole that was not drilled; the part is drawn without the hole."""
    window, a, b = _local(surface, defect, BOLT + COUNTERSINK)
    distance = np.hypot(a, b)
    punch = np.exp(-((distance / np.float32(0.012)) ** 2)) * np.float32(60.0)
    _add_slope(surface, window, defect, -punch * a, -punch * b)
    mask[window] = distance < BOLT + COUNTERSINK


def _fibre(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """A curled coloured thread on the part."""
    steps, length = 34, 0.62 * defect.size
    turns = np.cumsum(rng.normal(0, 0.32, steps)) + rng.normal(0, 0.09) * np.arange(steps)
    points = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / steps), axis=0)
    points -= points.mean(axis=0)
    window, a, b = _local(surface, defect, float(np.abs(points).max()) + 0.06)
    distance, _, _ = _path_distance(a, b, points)
    width = 0.0075
    colour = np.array(rng.choice([(0.10, 0.14, 0.34), (0.42, 0.10, 0.08), (0.06, 0.06, 0.07)]), np.float32)
    lit = colour * (1 + np.float32(0.5) * rng.random(dtype=np.float32))
    shadow, _, _ = _path_distance(a + np.float32(0.008), b + np.float32(0.010), points)
    dark = np.clip(0.5 - (shadow - np.float32(width)) / np.float32(0.012), 0, 1) * np.float32(0.35)
    surface.overlays.append((window, dark, np.zeros(3, np.float32)))
    surface.overlays.append((window, surface.pose.inside(distance - np.float32(width)) * np.float32(0.95), lit))
    mask[window] = distance < width


def _tool_mark(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """Chatter marks: a row of short parallel grooves."""
    long, wide = 0.125 * defect.size, 0.062 * defect.size
    window, a, b = _local(surface, defect, 1.2 * long)
    b = b + np.float32(rng.uniform(0.6, 1.4)) * a**2
    square = (a / np.float32(long)) ** 2 + (b / np.float32(wide)) ** 2
    envelope = np.clip(1.25 - square, 0, 1) ** np.float32(0.7)
    pitch = np.float32(2 * np.pi / rng.uniform(0.030, 0.036))
    _add_slope(
        surface, window, defect, np.float32(0.85 * defect.depth) * envelope * np.sin(a * pitch), np.zeros_like(a)
    )
    surface.colour[window] *= (1 - np.float32(0.10) * envelope)[..., None]
    surface.grain[window] *= 1 - np.float32(0.7) * envelope
    mask[window] = (square < 1) & (surface.part[window] > 0.5)


def _crack(surface: Surface, defect: Defect, rng: np.random.Generator, mask: Mask) -> None:
    """A jagged dark line with a branch."""
    half = 0.225 * defect.size
    window, a, b = _local(surface, defect, half + 0.12)
    t = np.linspace(-1, 1, 13)
    jag = np.cumsum(rng.normal(0, 0.016, 13))
    jag -= np.linspace(jag[0], jag[-1], 13)
    trunk = np.stack([half * t, jag], axis=1)
    root = trunk[int(rng.integers(4, 8))]
    aside = rng.choice([-1, 1]) * np.linspace(0, 0.085, 5) + np.r_[0, rng.normal(0, 0.008, 4)]
    branch = root + np.stack([np.linspace(0, 0.11, 5), aside], axis=1) * defect.size
    main, main_side, fraction = _path_distance(a, b, trunk)
    other, other_side, along = _path_distance(a, b, branch)
    width = np.float32(0.0088) * (1 - np.float32(0.55) * np.abs(2 * fraction - 1))
    thin = np.float32(0.0066) * (1 - np.float32(0.5) * along)
    gap = np.minimum(main - width, other - thin)
    side = np.where(main - width < other - thin, main_side, other_side)
    open_ = surface.pose.inside(gap)
    surface.colour[window] *= (1 - np.float32(0.78 * min(defect.depth, 1.1)) * open_)[..., None]
    surface.gloss[window] *= 1 - np.float32(0.9) * open_
    edge = np.exp(-((gap / np.float32(0.008)) ** 2))
    _add_slope(surface, window, defect, np.zeros_like(a), np.float32(0.35) * edge * np.sign(side))
    mask[window] = (gap < 0) & (surface.part[window] > 0.5)


DEFECTS: dict[str, Callable[[Surface, Defect, np.random.Generator, Mask], None]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "chip": _chip,
    "missing_hole": _missing_hole,
    "fibre": _fibre,
    "tool_mark": _tool_mark,
    "crack": _crack,
}
"""Kinds of defects by name."""


def hole_place(index: int) -> tuple[float, float]:
    """(u, v) of a bolt hole's centre."""
    return BOLT_CIRCLE * float(np.cos(BOLT_ANGLES[index])), BOLT_CIRCLE * float(np.sin(BOLT_ANGLES[index]))


def place_on(kind: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """A likely (u, v, angle) for a defect: on the rim for a chip, elsewhere on the flange between two holes."""
    turn = float(rng.uniform(0, 2 * np.pi))
    if kind == "chip":
        return OUTER * float(np.cos(turn)), OUTER * float(np.sin(turn)), turn
    bearing = float(rng.integers(6)) * np.pi / 3 + float(rng.uniform(-0.22, 0.22))
    radius = float(rng.uniform(0.56, 0.69))
    return radius * float(np.cos(bearing)), radius * float(np.sin(bearing)), turn
