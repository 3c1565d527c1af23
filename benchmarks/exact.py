"""Exact results of the kernel in float64, the reference for errors: NumPy only, from the definitions."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d

from codegraph_jax.features.aggregation import LAYER_NORM_EPSILON
from codegraph_jax.similarity.references import neighbour_count


def features(tokens: Float[np.ndarray, "n p c"], degree: int, grid: tuple[int, int]) -> Float[np.ndarray, "n p c"]:
    """Unit vectors of one degree (docs/method.md section 1)."""
    n, p, c = tokens.shape
    exact = tokens.astype(np.float64)
    centred = exact - exact.mean(axis=(1, 2), keepdims=True)
    normalised = centred / np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True) + LAYER_NORM_EPSILON)
    means = normalised.reshape(n, *grid, c)
    for axis in (1, 2):
        means = uniform_filter1d(means, degree, axis, mode="constant")
    means = means.reshape(n, p, c)
    return means / np.linalg.norm(means, axis=-1, keepdims=True)


def mutual_scores(
    tokens: Float[np.ndarray, "n p c"], degrees: tuple[int, ...], grid: tuple[int, int], fraction: float
) -> Float[np.ndarray, "n p"]:
    """Mutual scores of one layer, averaged over the degrees."""
    n, p, _ = tokens.shape
    k = neighbour_count(n, fraction)
    total = np.zeros((n, p))
    for degree in degrees:
        vectors = features(tokens, degree, grid)
        nearest = np.full((n, n, p), np.inf)
        for i in range(n):
            for j in range(i):
                cosines = vectors[i] @ vectors[j].T
                for a, b, axis in ((i, j, 1), (j, i, 0)):
                    nearest[a, b] = np.sqrt(np.maximum(2.0 - 2.0 * cosines.max(axis=axis), 0.0))
        total += np.sort(nearest, axis=1)[:, :k].mean(axis=1)
    return total / len(degrees)
