"""Image-level re-scoring over similar images (RsCIN; MuSc, arXiv:2401.16753; docs/method.md section 5)."""

import numpy as np
from jaxtyping import Float


def rescore(
    scores: Float[np.ndarray, " n"],
    image_features: Float[np.ndarray, "n d"],
    neighbours: tuple[int, ...],
    added: int = 0,
) -> Float[np.ndarray, " n"]:
    """Replaces each score by a mean over the most similar images, weighted by similarity.

    Scores are first scaled to [0, 1] over the set; the result averages over the neighbourhood sizes.

    Args:
        scores: image scores.
        image_features: feature vectors; the weights are their inner products.
        neighbours: neighbourhood sizes, including the image itself; capped at the number of images.
        added: number of images at the end that do not belong to the set. Each is averaged over the set and itself, has
            no effect on other scores, and exceeds 1 if it is more anomalous than every image of the set.
    """
    scores = np.asarray(scores, np.float64)
    features = np.asarray(image_features, np.float64)
    own = len(scores) - added
    low, spread = scores[:own].min(), np.ptp(scores[:own])
    if spread == 0:
        return np.zeros_like(scores)
    scaled = (scores - low) / spread
    rescored = [_weighted_means(features[:own] @ features[:own].T, scaled[:own], scaled[:own], neighbours)]
    for i in range(own, len(scores)):
        candidates = [*range(own), i]
        weights = features[candidates] @ features[i]
        rescored.append(_weighted_means(weights[None], scaled[candidates], scaled[i : i + 1], neighbours))
    return np.concatenate(rescored)


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
