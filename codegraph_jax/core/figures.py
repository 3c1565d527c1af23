"""Photos with their anomaly maps as figures of matplotlib, for notebooks and files.

Import this module where it is used, since matplotlib takes long to import.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

PHOTO_INCHES = 2.6
"""Width of a photo in a figure."""
DPI = 100
OPACITY = 0.6
"""Opacity of the strongest colour of a map over its photo."""
COLUMNS = 6
"""Maximum number of photos in a row."""


class Picture(Figure):
    """A figure that a notebook shows without pyplot, and that scripts write with `savefig`."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=DPI)
        return stream.getvalue()


@dataclass(frozen=True)
class Panel:
    """One photo of a figure.

    Attributes:
        title: text above it.
        anomaly_map: the map, which covers the photo.
        photo: RGB; None draws the map alone.
    """

    title: str
    anomaly_map: Float[np.ndarray, "a b"]
    photo: UInt8[np.ndarray, "h w 3"] | None


def draw_panels(panels: Sequence[Panel], limits: tuple[float, float], beside: bool) -> Picture:
    """A figure of photos with their maps in colour.

    `limits` are the scores without colour and in full colour. Maps are drawn over their photos, or `beside` them.
    """
    each = 2 if beside else 1
    # about as many rows as columns
    columns = min(len(panels), COLUMNS // each, int(np.ceil(len(panels) ** 0.5)))
    rows = -(-len(panels) // columns)
    figure = Picture(figsize=(PHOTO_INCHES * columns * each, (PHOTO_INCHES + 0.4) * rows), layout="constrained")
    axes = figure.subplots(rows, columns * each, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        shown = axes[row, each * column : each * (column + 1)]
        height, width = panel.anomaly_map.shape if panel.photo is None else panel.photo.shape[:2]
        strength = np.clip((panel.anomaly_map - limits[0]) / (limits[1] - limits[0]), 0, 1)
        opacity = 1.0 if beside or panel.photo is None else OPACITY * strength**0.75
        if panel.photo is not None:
            shown[0].imshow(panel.photo)
        shown[-1].imshow(
            strength, "turbo", vmin=0, vmax=1, alpha=opacity, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
        )
        shown[0].set_title(panel.title, fontsize=8)
    return figure
