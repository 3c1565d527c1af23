"""Where the anomalies of an image lie: masks and boxes from its anomaly map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from scipy import ndimage

from codegraph_jax.consistency.community import PatchBox


@dataclass(frozen=True)
class Box:
    """Edges of a rectangle as fractions of the image's width and height, in [0, 1]."""

    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> list[int]:
        """[left, top, right, bottom] in pixels of an image, rounded outwards; right and bottom are exclusive."""
        return [
            int(np.floor(self.left * width)),
            int(np.floor(self.top * height)),
            int(np.ceil(self.right * width)),
            int(np.ceil(self.bottom * height)),
        ]


def shared_box(box: PatchBox) -> Box:
    """The box of a community's patches in the form that is drawn here."""
    return Box(box.left, box.top, box.right, box.bottom)


def stretch(anomaly_map: Float[np.ndarray, "s s"], width: int, height: int) -> Float[np.ndarray, "height width"]:
    """A map in the shape of its image."""
    if anomaly_map.shape == (height, width):
        return anomaly_map
    picture = Image.fromarray(np.asarray(anomaly_map, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def flagged_regions(scores: Float[np.ndarray, "h w"], seed: float, grow: float) -> Bool[np.ndarray, "h w"]:
    """Regions above `grow` that reach `seed` somewhere (hysteresis): few false ones, and whole ones.

    The highest place always counts as a seed: interpolation may have lowered the peak that flagged the image.
    """
    seed = min(seed, float(scores.max()))
    labels, count = ndimage.label(scores >= min(grow, seed), structure=np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[labels[scores >= seed]] = True
    return kept[labels]


def region_boxes(regions: Bool[np.ndarray, "h w"]) -> list[Box]:
    """The smallest box around each connected region, from top to bottom."""
    height, width = regions.shape
    labels, _ = ndimage.label(regions, structure=np.ones((3, 3)))
    return [
        Box(columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)
        for rows, columns in ndimage.find_objects(labels)
    ]
