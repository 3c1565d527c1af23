"""Anomaly maps and image scores from patch scores (MuSc, arXiv:2401.16753; docs/method.md section 5)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

MAPS_AT_ONCE = 16
"""Maps that are interpolated at once."""


def _align_corners_weights(cells: int, size: int) -> Float[np.ndarray, "s cells"]:
    """Linear interpolation from `cells` samples to `size`, first and last sample on the edges (align_corners=True)."""
    position = np.linspace(0.0, cells - 1, size)
    lower = np.minimum(position.astype(int), max(cells - 2, 0))
    weights = np.zeros((size, cells))
    weights[np.arange(size), lower] = 1.0 - (position - lower)
    weights[np.arange(size), np.minimum(lower + 1, cells - 1)] += position - lower
    return weights.astype(np.float32)


@partial(jax.jit, static_argnames="size")
def anomaly_maps(scores: Float[Array, "n h w"], size: int | tuple[int, int]) -> Float[Array, "n a b"]:
    """Bilinear interpolation of patch scores, align_corners=True, no smoothing.

    Args:
        scores: of the patches.
        size: pixels a side, or (height, width).
    """
    height, width = (size, size) if isinstance(size, int) else size
    vertical = _align_corners_weights(scores.shape[1], height)
    horizontal = _align_corners_weights(scores.shape[2], width)
    return jnp.einsum("ah,nhw,bw->nab", vertical, scores, horizontal, precision=lax.Precision.HIGHEST)


def interpolated(patch_scores: Float[np.ndarray, "n h w"], size: int | tuple[int, int]) -> Float[np.ndarray, "n a b"]:
    """`anomaly_maps` of arrays on the host."""
    return np.asarray(anomaly_maps(jnp.asarray(patch_scores), size))


def image_scores(patch_scores: Float[np.ndarray, "n h w"], size: int) -> Float[np.ndarray, " n"]:
    """Greatest value of each image's anomaly map of `size` pixels a side; the maps never exist all at once."""
    starts = range(0, len(patch_scores), MAPS_AT_ONCE)
    parts = [interpolated(patch_scores[a : a + MAPS_AT_ONCE], size).max(axis=(1, 2)) for a in starts]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
