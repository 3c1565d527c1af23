"""Mutual scoring (MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def neighbour_count(references: int, fraction: float) -> int:
    """Number of nearest references that a score averages: max(1, int(fraction * (references - 1))).

    MuSc's rule, without the maximum, gives 0 neighbours and a score of NaN for sets of fewer than five images.
    """
    return max(1, int(fraction * (references - 1)))


def mean_over_layers(scores: Sequence[Float[np.ndarray, "r n p"]]) -> Float[np.ndarray, "n p"]:
    """Mutual scores averaged over layers and degrees."""
    total = np.zeros(scores[0].shape[1:], np.float64)
    for layer in scores:
        total += layer.mean(axis=0)
    return (total / len(scores)).astype(np.float32)
