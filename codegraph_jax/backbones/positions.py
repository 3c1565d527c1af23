"""Position embeddings of the original models: resampling of learned positions, and angles of rotary positions.

Both resamplings are separable, with one [target, source] matrix per axis. Matrices and angles are computed on the host
in float64; they are constants of the compiled model.
"""

import math
from typing import Literal

import numpy as np

Interpolation = Literal["cubic", "antialiased", "linear"]


def resampling_matrix(source: int, target: int, offset: float = 0.0, kind: Interpolation = "cubic") -> np.ndarray:
    """Weights of an interpolation from `source` to `target` positions along one axis.

    The centre of target cell i lies at (i + 0.5) / scale - 0.5 in source cells (`align_corners=False`). `cubic`:
    Keys' kernel with a = -0.75 and clamped borders (CLIP, DINOv2). `antialiased`: Keys' kernel with a = -0.5, widened
    by the reduction, cut at the borders and normalised (DINOv2 with registers). `linear`: the same with a triangle
    (SigLIP 2 NaFlex).

    Args:
        source: cells of the learned grid.
        target: cells of the new grid.
        offset: added to `target` for the scale; DINOv2's original code uses 0.1.
        kind: the kernel.

    Returns:
        float64 [target, source]; rows sum to 1.
    """
    step = source / (target + offset)
    if kind != "cubic":
        return _antialiased(source, target, step, linear=kind == "linear")
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * step - 0.5
        first = math.floor(centre) - 1
        for j in range(first, first + 4):
            weights[i, min(max(j, 0), source - 1)] += _keys_cubic(centre - j, a=-0.75)
    return weights


def rotary_angles(rows: int, columns: int, width: int, base: float) -> np.ndarray:
    """The rotation angle of each channel of a head at each patch (DINOv3, arXiv:2508.10104, section 3.2).

    The centre of a patch has coordinates in [-1, 1] along each axis, whatever the size of the image. The angle of
    channel i of a quarter is 2 pi coordinate / base ** (4 i / width), with the row coordinate in the first quarter and
    the column coordinate in the second. The second half of the channels has the same angles as the first.

    Args:
        rows: rows of patches.
        columns: columns of patches.
        width: channels of a head, a multiple of 4.
        base: longest period in units of half a side.

    Returns:
        float64 [rows * columns, width], row by row.
    """
    periods = base ** (4 * np.arange(width // 4) / width)
    down, across = (2 * np.pi * (2 * (np.arange(n) + 0.5) / n - 1)[:, None] / periods for n in (rows, columns))
    quarters = np.concatenate([np.repeat(down, columns, axis=0), np.tile(across, (rows, 1))], axis=1)
    return np.tile(quarters, 2)


def _antialiased(source: int, target: int, step: float, linear: bool) -> np.ndarray:
    width = max(step, 1.0)
    support = (1.0 if linear else 2.0) * width
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * step
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), source)
        for j in range(first, last):
            distance = (j + 0.5 - centre) / width
            weights[i, j] = max(1 - abs(distance), 0) if linear else _keys_cubic(distance, a=-0.5)
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
