"""Image-level re-scoring over similar images (docs/method.md section 5).

RsCIN of MuSc (arXiv:2401.16753), and RsCon of MuSc-V2 (arXiv:2511.10047), which compares the images' most anomalous
patches instead of the whole images.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from codegraph_jax.distributed import processes
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.comparison import Comparison

PEAK_NEIGHBOUR_COUNTS = (1, 7)
"""Numbers of nearest images over which `rescore_by_peaks` averages, as in MuSc-V2's released code."""


def rescore(
    scores: Float[np.ndarray, " n"],
    image_features: Float[np.ndarray, "n d"],
    neighbours: tuple[int, ...],
    added: int,
) -> Float[np.ndarray, " n"]:
    """Replaces each score by a mean over the most similar images, weighted by similarity.

    Scores are first scaled to [0, 1] over the set; the result averages over the neighbourhood sizes, which include the
    image itself. Similarities are the inner products of the feature vectors. The last `added` images do not belong to
    the set: each is averaged over the set and itself, has no effect on other scores, and exceeds 1 if it is more
    anomalous than every image of the set.
    """
    scores = np.asarray(scores, np.float64)
    features = np.asarray(image_features, np.float64)
    set_size = len(scores) - added
    low, spread = scores[:set_size].min(), np.ptp(scores[:set_size])
    if spread == 0:
        return np.zeros_like(scores)
    scaled = (scores - low) / spread
    rescored = [
        _weighted_means(features[:set_size] @ features[:set_size].T, scaled[:set_size], scaled[:set_size], neighbours)
    ]
    for i in range(set_size, len(scores)):
        candidates = [*range(set_size), i]
        weights = features[candidates] @ features[i]
        rescored.append(_weighted_means(weights[None], scaled[candidates], scaled[i : i + 1], neighbours))
    return np.concatenate(rescored)


def rescore_by_peaks(
    scores: Float[np.ndarray, " n"], comparison: Comparison, patch_scores: Float[np.ndarray, "n h w"]
) -> Float[np.ndarray, " n"]:
    """`rescore` by the similarity of the images' most anomalous patches (RsCon of MuSc-V2, arXiv:2511.10047).

    As in its released code: the feature of the highest patch in the last layer but one, 1 and 7 neighbours. Ours: the
    feature is that of the middle degree, since this package has no common feature of all degrees; and similarities
    below 0 count as 0.
    """
    features, options = comparison.features, comparison.options
    layer = features.layers[max(len(features.layers) - 2, 0)]
    degree = sorted(options.degrees)[len(options.degrees) // 2]
    peaks = patch_scores.reshape(len(patch_scores), -1).argmax(axis=1)
    peak_vectors = []
    for row, i in enumerate(features.local):
        tokens = jnp.asarray(np.asarray(layer[row : row + 1]))
        peak_vectors.append(np.asarray(aggregate(tokens, degree, options.grid))[0, peaks[i]])
    width = layer.shape[-1]
    vectors = processes.gather_rows(np.array(peak_vectors, np.float32).reshape(len(peak_vectors), width))
    return rescore(scores, vectors, PEAK_NEIGHBOUR_COUNTS, comparison.added_count)


def _weighted_means(
    weights: Float[np.ndarray, "q c"],
    values: Float[np.ndarray, " c"],
    otherwise: Float[np.ndarray, " q"],
    neighbours: tuple[int, ...],
) -> Float[np.ndarray, " q"]:
    """Means over the k candidates of greatest weight, averaged over k; `otherwise` if those weights sum to 0."""
    order = np.argsort(-weights, axis=1, kind="stable")
    total = np.zeros(len(weights))
    for k in neighbours:
        nearest = order[:, :k]
        kept = np.take_along_axis(weights, nearest, axis=1)
        normaliser = kept.sum(axis=1)
        mean = (kept * values[nearest]).sum(axis=1) / np.where(normaliser == 0, 1.0, normaliser)
        total += np.where(normaliser == 0, otherwise, mean)
    return total / len(neighbours)
