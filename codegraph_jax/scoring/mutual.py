"""Mutual scoring (MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def neighbour_count(references: int, fraction: float) -> int:
    """K, how many nearest references a score averages: max(1, int(fraction * (references - 1))).

    MuSc's rule gives 0, and a score of NaN, for sets under five images; one neighbour is the least that means anything.
    """
    return max(1, int(fraction * (references - 1)))


def mean_over_layers(scores: Sequence[Float[np.ndarray, "r n p"]]) -> Float[np.ndarray, "n p"]:
    """Mutual scores of each layer, averaged over layers and degrees."""
    total = np.zeros(scores[0].shape[1:], np.float64)
    for layer in scores:
        total += layer.mean(axis=0)
    return (total / len(scores)).astype(np.float32)
