"""Mutual scoring (MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS


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


def mutual_scores(
    distances: Float[np.ndarray, "r n m p"],
    k: int,
    columns: Int[np.ndarray, " c"] | slice = slice(None),
    barred: Bool[np.ndarray, "n m"] | None = None,
) -> Float[np.ndarray, "r n p"]:
    """s[r](x) = mean of the K smallest distances of patch x to the reference images.

    Args:
        distances: of each patch of n images to m references; infinite where a reference must not serve.
        k: see `neighbour_count`.
        columns: the references that serve.
        barred: references that must not serve an image; None: there are none.
    """
    degrees, n, _, p = distances.shape
    scores = np.empty((degrees, n, p), np.float32)

    def score(index: tuple[int, int]) -> None:
        to_references = distances[index][columns]
        if barred is not None and barred[index[1]][columns].any():
            to_references = np.where(barred[index[1]][columns][:, None], np.float32(np.inf), to_references)
        scores[index] = mean_of_smallest(to_references, k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(score, np.ndindex(degrees, n)))
    return scores


def mean_over_layers(scores: Sequence[Float[np.ndarray, "r n p"]]) -> Float[np.ndarray, "n p"]:
    """Mutual scores of each layer, averaged over layers and degrees."""
    total = np.zeros(scores[0].shape[1:], np.float64)
    for layer in scores:
        total += layer.mean(axis=0)
    return (total / len(scores)).astype(np.float32)
