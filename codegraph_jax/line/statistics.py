"""Statistics of a photo that depend on the camera and the light rather than on the part [ours]."""

import numpy as np
from PIL import Image
from scipy import ndimage

GREY_SIDE = 512
"""Pixels of the longer side after resizing; about the input size of a backbone."""
PICTURE_STATISTICS = ("brightness", "sharpness", "left", "top")
"""Keys of `picture_statistics`."""


def picture_statistics(image: Image.Image) -> dict[str, float]:
    """Brightness, sharpness and position of the part in a photo.

    Args:
        image: RGB or grey.

    Returns:
        brightness: mean grey value, in [0, 1];
        sharpness: logarithm of the mean square of the Laplacian;
        left, top: centroid of the deviations from the median grey value, as shares of width and height.
    """
    scale = min(1.0, GREY_SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32) / 255
    weights = np.abs(grey - np.median(grey)) + 1e-6
    top, left = ((centre + 0.5) / side for centre, side in zip(ndimage.center_of_mass(weights), grey.shape))
    return {
        "brightness": float(grey.mean()),
        "sharpness": float(np.log(np.square(ndimage.laplace(grey, mode="nearest")).mean() + 1e-9)),
        "left": float(left),
        "top": float(top),
    }
