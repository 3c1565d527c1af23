"""Geometry of the score histogram: the template draws it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from codegraph_jax.scoring.threshold import Calibration

WIDTH, HEIGHT = 640.0, 220.0
"""Of the plotting area, in units of the drawing."""
MOST_BINS = 48
CURVE_POINTS = 128
LEAST_HEIGHT = 2.0
"""Of a bar that counts anything."""


@dataclass(frozen=True)
class Bar:
    """One bin: its place, the heights of its parts (below the threshold, above it), and what it says."""

    x: float
    width: float
    below: float
    above: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """Bars, the threshold, the law of normal images, and ticks, in a WIDTH x HEIGHT box with y downwards."""

    bars: list[Bar]
    threshold: float
    curve: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def histogram(scores: Float[np.ndarray, " n"], calibration: Calibration) -> Histogram:
    """The raw scores of one category, its threshold, and how many normal images the fitted law expects where.

    Args:
        scores: n raw image scores.
        calibration: what was learnt from them.
    """
    threshold = calibration.threshold
    low, high = float(scores.min()), float(scores.max())
    if np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.03 * (high - low) or 0.01
    low, high = low - margin, high + margin
    bins = int(np.clip(3 * np.sqrt(len(scores)), 12, MOST_BINS))
    edges = np.linspace(low, high, bins + 1)
    above = np.histogram(scores[calibration.flagged], edges)[0]
    below = np.histogram(scores[~calibration.flagged], edges)[0]
    curve = calibration.normal_density(np.linspace(low, high, CURVE_POINTS)) * len(scores) * (high - low) / bins
    # a law much narrower than a bin would press the bars to the ground
    most = int((above + below).max())
    top = max(most, min(float(curve.max()), 1.3 * most))

    counts = [value for value in round_ticks(0, top, 5) if value % 1 == 0]

    def x(value: float) -> float:
        return round((value - low) / (high - low) * WIDTH, 2)

    bars = [
        Bar(
            x=x(edges[k]),
            width=round(WIDTH / bins, 2),
            below=_height(below[k], top),
            above=_height(above[k], top),
            title=f"{edges[k]:.3f} to {edges[k + 1]:.3f}: {below[k]} not flagged, {above[k]} flagged",
        )
        for k in range(bins)
        if above[k] + below[k]
    ]
    return Histogram(
        bars=bars,
        threshold=x(threshold) if np.isfinite(threshold) else -1.0,
        curve=_path(np.minimum(curve / top, 1.0)),
        x_ticks=[(x(value), f"{value:g}") for value in round_ticks(low, high, 7)],
        y_ticks=[(round(HEIGHT * (1 - count / top), 2), f"{count:g}") for count in counts],
    )


def _height(count: int, top: float) -> float:
    """Of a bar; one image among thousands can still be seen."""
    return max(round(count / top * HEIGHT, 2), LEAST_HEIGHT) if count else 0.0


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(float(power * m) for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    digits = max(0, -int(np.floor(np.log10(step))))
    return [round(k * step, digits) for k in range(first, last + 1)]


def _path(heights: Float[np.ndarray, " k"]) -> str:
    """A curve over the whole width, heights in [0, 1], as the path of an SVG."""
    points = zip(np.linspace(0.0, WIDTH, len(heights)), HEIGHT * (1 - heights))
    return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
