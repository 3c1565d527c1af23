"""Anomaly maps and image scores from patch scores (MuSc, arXiv:2401.16753; docs/method.md section 5)."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from codegraph_jax.core.arrays import padded_size, zero_padded
from codegraph_jax.data.frame import PhotoRect

MAPS_AT_ONCE, PIXELS_AT_ONCE = 16, 2**23
"""Limits on the number of maps that are interpolated at once, and on their pixels together."""

ImageScore = Callable[[Float[np.ndarray, "a b"]], float]
"""The score of an image from its anomaly map in pixels; larger is more anomalous."""

HIGHEST_SHARE = 0.01
"""Share of the pixels that `mean_of_highest` averages [ours]."""


def _align_corners_weights(cells: int, size: int) -> Float[np.ndarray, "s cells"]:
    """Weights of linear interpolation with the first and last sample on the edges (align_corners=True)."""
    position = np.linspace(0.0, cells - 1, size)
    lower = np.minimum(position.astype(int), max(cells - 2, 0))
    weights = np.zeros((size, cells))
    weights[np.arange(size), lower] = 1.0 - (position - lower)
    weights[np.arange(size), np.minimum(lower + 1, cells - 1)] += position - lower
    return weights.astype(np.float32)


@partial(jax.jit, static_argnames="size")
def anomaly_maps(scores: Float[Array, "n h w"], size: int | tuple[int, int]) -> Float[Array, "n a b"]:
    """Bilinear interpolation of patch scores to a side, or (height, width), in pixels; align_corners=True."""
    height, width = (size, size) if isinstance(size, int) else size
    vertical = _align_corners_weights(scores.shape[1], height)
    horizontal = _align_corners_weights(scores.shape[2], width)
    return jnp.einsum("ah,nhw,bw->nab", vertical, scores, horizontal, precision=lax.Precision.HIGHEST)


def interpolated(patch_scores: Float[np.ndarray, "n h w"], size: int | tuple[int, int]) -> Float[np.ndarray, "n a b"]:
    """`anomaly_maps` on the CPU, since the maps are used on the host and an accelerator may be busy."""
    return np.asarray(anomaly_maps(jax.device_put(patch_scores, _cpu_device()), size))


@lru_cache(maxsize=1)
def _cpu_device() -> jax.Device | None:
    """The CPU device; None, the default device, if JAX runs without a CPU backend."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def photo_maps(
    patch_scores: Float[np.ndarray, "n h w"], size: int | tuple[int, int], rects: Sequence[PhotoRect]
) -> Float[np.ndarray, "n a b"]:
    """Anomaly maps of the part of each grid that its photo covers."""
    maps = [interpolated(crops, size) for crops in _photo_parts(patch_scores, rects)]
    return maps[0] if len(maps) == 1 else np.concatenate(maps)  # without a copy of all maps


def _photo_parts(
    patch_scores: Float[np.ndarray, "n h w"], rects: Sequence[PhotoRect]
) -> list[Float[np.ndarray, "k a b"]]:
    """The part of each grid that its photo covers; a single array if all photos cover their grids."""
    if all((rect.height, rect.width) == patch_scores.shape[1:] for rect in rects):
        return [patch_scores]
    return [rect.cut(photo_scores)[None] for photo_scores, rect in zip(patch_scores, rects)]


def mean_of_highest(anomaly_map: Float[np.ndarray, "a b"]) -> float:
    """Mean of the highest hundredth of the pixels of a map, which one odd patch raises less than the maximum [ours]."""
    count = max(1, round(HIGHEST_SHARE * anomaly_map.size))
    return float(np.partition(anomaly_map, -count, axis=None)[-count:].mean())


def image_scores(
    patch_scores: Float[np.ndarray, "n h w"],
    size: tuple[int, int],
    rects: Sequence[PhotoRect],
    image_score: ImageScore | None = None,
) -> Float[np.ndarray, " n"]:
    """Greatest value of each image's anomaly map of `size`, or another score of it; few maps are in memory at once."""
    if not len(patch_scores):
        return np.zeros(0, np.float32)
    if image_score is not None:
        maps = (interpolated(rect.cut(photo_scores)[None], size)[0] for photo_scores, rect in zip(patch_scores, rects))
        return np.array([image_score(anomaly_map) for anomaly_map in maps], np.float32)
    return np.concatenate([_greatest_values(crops, size) for crops in _photo_parts(patch_scores, rects)])


def _greatest_values(patch_scores: Float[np.ndarray, "n h w"], size: tuple[int, int]) -> Float[np.ndarray, " n"]:
    count = len(patch_scores)
    return np.asarray(_greatest(zero_padded(patch_scores.astype(np.float32), padded_size(count)), size))[:count]


@partial(jax.jit, static_argnames="size")
def _greatest(scores: Float[Array, "n h w"], size: tuple[int, int]) -> Float[Array, " n"]:
    step = max(1, min(MAPS_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))
    return lax.map(lambda of_photo: anomaly_maps(of_photo[None], size).max(), scores, batch_size=min(step, len(scores)))


def scale_ends(patch_scores: Float[np.ndarray, " v"], thresholds: Sequence[float] = ()) -> tuple[float, float]:
    """Scores that heat maps draw without colour and in full colour: the median and the 99.9th percentile of patches.

    With the maximum instead, one outlier would fade every other map. If less than 1 patch in 1,000 is defective, full
    colour starts at the lowest of the (finite) thresholds of the image scores, so that normal patches are not drawn in
    it.
    """
    low, high = np.percentile(patch_scores, (50.0, 99.9))
    finite = [threshold for threshold in thresholds if np.isfinite(threshold)]
    return float(low), float(max(high, low + 1e-6, min(finite, default=low)))
