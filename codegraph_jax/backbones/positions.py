"""Position embeddings of the original models: resampling of learned positions, and angles of rotary positions.

The resampling is separable, with one [target, source] matrix per axis. Matrices and angles are computed on the host in
float64; they are constants of the compiled model.
"""

import math

import numpy as np


def resampling_matrix(source: int, target: int) -> np.ndarray:
    """Weights of PyTorch's bicubic interpolation from `source` to `target` positions along one axis (CLIP, DINOv2).

    Keys' kernel with a = -0.75 and clamped borders; the centre of target cell i lies at (i + 0.5) / scale - 0.5 in
    source cells (`align_corners=False`).

    Returns:
        float64 [target, source]; rows sum to 1.
    """
    step = source / target
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * step - 0.5
        first = math.floor(centre) - 1
        for j in range(first, first + 4):
            weights[i, min(max(j, 0), source - 1)] += _keys_cubic(centre - j)
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


def _keys_cubic(x: float) -> float:
    """The cubic convolution kernel (Keys 1981, eq. 15) with a = -0.75."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return 0.0
