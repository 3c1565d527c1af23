"""Position embeddings as in the original models: learned ones, resampled to another grid, and rotary ones.

Both resamplings are separable, so each is a [target, source] matrix for one axis. Everything is computed on the host in
float64 and enters the model as a constant.
"""

import math

import numpy as np


def resampling_matrix(source: int, target: int, offset: float = 0.0, antialias: bool = False) -> np.ndarray:
    """Weights that resample `source` positions along one axis to `target` of them by bicubic convolution.

    The centre of target cell i lies at (i + 0.5) / scale - 0.5 in source cells (`align_corners=False`).
    Without antialiasing: Keys' kernel with a = -0.75 and clamped borders, as CLIP and DINOv2 are interpolated.
    With it: a = -0.5, the kernel widened by the reduction, cut at the borders and normalised (DINOv2 with registers).

    Args:
        source: cells of the learned grid.
        target: cells of the grid that is wanted.
        offset: added to `target` before the scale is taken; DINOv2's original code uses 0.1.
        antialias: which of the two rules.

    Returns:
        float64 [target, source], rows summing to 1.
    """
    step = source / (target + offset)
    if antialias:
        return _antialiased(source, target, step)
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * step - 0.5
        first = math.floor(centre) - 1
        for j in range(first, first + 4):
            weights[i, min(max(j, 0), source - 1)] += _keys_cubic(centre - j, a=-0.75)
    return weights


def rotary_angles(rows: int, columns: int, width: int, base: float) -> np.ndarray:
    """The rotation angle of each channel pair of a head at each patch (DINOv3, arXiv:2508.10104, section 3.2).

    The centre of a patch has coordinates in [-1, 1] along each axis, whatever the size of the image. The first quarter
    of the channels turns with the row, the second with the column, by 2 pi coordinate / base ** (4 i / width) for
    channel i of a quarter; the second half of the channels turns with the first.

    Args:
        rows: of patches.
        columns: of patches.
        width: channels of a head, a multiple of 4.
        base: the longest period, in units of half a side.

    Returns:
        float64 [rows * columns, width], row by row.
    """
    periods = base ** (4 * np.arange(width // 4) / width)
    down, across = (2 * np.pi * (2 * (np.arange(n) + 0.5) / n - 1)[:, None] / periods for n in (rows, columns))
    quarters = np.concatenate([np.repeat(down, columns, axis=0), np.tile(across, (rows, 1))], axis=1)
    return np.tile(quarters, 2)


def _antialiased(source: int, target: int, step: float) -> np.ndarray:
    width = max(step, 1.0)
    support = 2.0 * width
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * step
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), source)
        for j in range(first, last):
            weights[i, j] = _keys_cubic((j + 0.5 - centre) / width, a=-0.5)
        weights[i] /= weights[i].sum()
    return weights


def _keys_cubic(x: float, a: float) -> float:
    """The cubic convolution kernel (Keys 1981, eq. 15)."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return 0.0
