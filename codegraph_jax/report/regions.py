"""Where the anomalies of an image lie: masks and boxes from its anomaly map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from scipy import ndimage

from codegraph_jax.consistency.community import PatchBox
from codegraph_jax.data.placement import Placement

HALF, NEARBY = 0.5, 5
"""Half of the greatest score within the widest neighbourhood that is averaged, 5 x 5 patches. Measured against 0.3 to
0.7, 3 to 9 patches and no such limit: benchmarks/log/accuracy.md, "Regions"."""


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


def shared_box(box: PatchBox, placement: Placement) -> Box:
    """The box of a community's patches, in shares of the photograph instead of its grid."""
    (rows, columns), content = placement.frame.grid, placement.content(box.image)
    across, down = (
        ((edge * columns - content.left) / content.width for edge in (box.left, box.right)),
        ((edge * rows - content.top) / content.height for edge in (box.top, box.bottom)),
    )
    left, right, top, bottom = (min(max(edge, 0.0), 1.0) for edge in (*across, *down))
    return Box(left, top, right, bottom)


def stretch(patch_scores: Float[np.ndarray, "h w"], width: int, height: int) -> Float[np.ndarray, "height width"]:
    """Scores of the patches of a photograph at so many pixels, each patch's own in its middle.

    Where a patch lies is what counts in pictures and masks. The maps that metrics are measured on put the outer patches
    on the edges instead (align_corners), as MuSc does: half a patch further out.
    """
    picture = Image.fromarray(np.asarray(patch_scores, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def lower_limits(patch_scores: Float[np.ndarray, "h w"], background: float, grow: float) -> Float[np.ndarray, "h w"]:
    """The score from which each patch may belong to a flagged region.

    `grow`, what a normal image hardly reaches anywhere, and not below half of the way from the image's background to
    the greatest score nearby. An image that scores higher all over is not anomalous all over; and around a defect
    scores fall off over some patches, since features of a patch tell of its neighbours too.

    Args:
        patch_scores: of one photograph.
        background: usual score of its patches.
        grow: see `Calibration.patch_threshold`.
    """
    peaks = ndimage.maximum_filter(patch_scores, NEARBY, mode="nearest")
    return np.maximum(np.float32(grow), background + HALF * (peaks - background)).astype(np.float32)


def flagged_regions(
    scores: Float[np.ndarray, "a b"], seed: float, grow: float | Float[np.ndarray, "a b"]
) -> Bool[np.ndarray, "a b"]:
    """Regions above `grow` that reach `seed` somewhere (hysteresis): few false ones, and whole ones.

    The highest place always counts as a seed: interpolation may have lowered the peak that flagged the image.

    Args:
        scores: anomaly map.
        seed: threshold.
        grow: lower limit, one for all or of each pixel.
    """
    peak = scores.max()
    seed = min(seed, float(peak))
    above = scores >= np.minimum(grow, peak)
    labels, count = ndimage.label(above, structure=np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[labels[scores >= seed]] = True
    kept[0] = False
    return kept[labels]
