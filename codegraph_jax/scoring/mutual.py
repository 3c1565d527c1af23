"""Mutual scoring, anomaly maps, image scores and re-scoring (MuSc, arXiv:2401.16753; codegraph.md section 4)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

CPU_THREADS = 4
"""numpy's partition releases the GIL; more threads than this wait for memory."""


def neighbour_count(references: int, fraction: float) -> int:
    """K, how many nearest references a score averages: max(1, int(fraction * (references - 1))).

    MuSc's rule gives 0, and a score of NaN, for sets under five images; one neighbour is the least that means anything.
    """
    return max(1, int(fraction * (references - 1)))


def mean_of_smallest(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """Mean of the k smallest finite distances of each patch; of all where fewer are finite, infinite where none is."""
    columns = np.ascontiguousarray(distances.T)
    if k < columns.shape[1]:
        columns = np.partition(columns, k - 1, axis=1)[:, :k]
    finite = np.isfinite(columns)
    if finite.all():
        return columns.mean(axis=1)
    count = finite.sum(axis=1)
    total = np.where(finite, columns, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf).astype(columns.dtype)


def mutual_scores(distances: Float[np.ndarray, "r n m p"], k: int) -> Float[np.ndarray, "r n p"]:
    """s[r](x) = mean of the K smallest distances of patch x to the reference images.

    Args:
        distances: of each patch of n images to m references; infinite where a reference must not serve.
        k: see `neighbour_count`.
    """
    degrees, n, _, p = distances.shape
    scores = np.empty((degrees, n, p), np.float32)

    def score(index: tuple[int, int]) -> None:
        scores[index] = mean_of_smallest(distances[index], k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(score, np.ndindex(degrees, n)))
    return scores


def mean_scores(tables: Sequence[Float[np.ndarray, "r n m p"]], k: int) -> Float[np.ndarray, "n p"]:
    """Mutual scores, averaged over layers and degrees; one table a layer, arguments as for `mutual_scores`."""
    total = np.zeros(tables[0].shape[1::2], np.float64)
    for table in tables:
        total += mutual_scores(table, k).mean(axis=0)
    return (total / len(tables)).astype(np.float32)


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


def rescore(
    scores: Float[np.ndarray, " n"], image_features: Float[np.ndarray, "n d"], neighbours: tuple[int, ...]
) -> Float[np.ndarray, " n"]:
    """Image-level re-scoring (RsCIN): each score becomes a mean over its most similar images, weighted by similarity.

    Scores are first brought to [0, 1] over the set; the result averages over the neighbourhood sizes.

    Args:
        scores: image scores.
        image_features: one vector an image; W = T T^t weighs the images.
        neighbours: sizes k, the image itself counted; capped at n.
    """
    scores = np.asarray(scores, np.float64)
    spread = scores.max() - scores.min()
    scaled = (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)
    features = np.asarray(image_features, np.float64)
    weights = features @ features.T
    order = np.argsort(-weights, axis=1, kind="stable")
    total = np.zeros_like(scaled)
    for k in neighbours:
        nearest = order[:, : min(k, len(scores))]
        kept = np.take_along_axis(weights, nearest, axis=1)
        normaliser = kept.sum(axis=1)
        mean = (kept * scaled[nearest]).sum(axis=1) / np.where(normaliser == 0, 1.0, normaliser)
        total += np.where(normaliser == 0, scaled, mean)
    return total / len(neighbours)
