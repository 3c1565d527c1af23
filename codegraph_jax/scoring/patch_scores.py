"""Scores of a patch from its distances to the references; each is a `PatchScore` (docs/research.md).

The mean of the K smallest distances, MuSc's score, is `similarity.host_tables.mean_of_smallest`.
"""

import numpy as np
from jaxtyping import Float

from codegraph_jax.similarity.host_tables import mean_of_smallest

SAME = 1e-6
"""Median distance below which a reference counts as a copy of the photo."""


def nearest(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """The distance to the most similar patch of all references [ours]; as in PatchCore (arXiv:2106.08265), K = 1."""
    scores: Float[np.ndarray, " p"] = distances.min(axis=0)
    return scores


def relative(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """Mean of the K smallest distances, each relative to the median distance of the photo to that reference [ours].

    A reference in another light or pose is far from all patches of the photo alike, and counts as much as the others.
    The result is in units of distances: multiplied by the median of all distances.
    """
    finite = np.where(np.isfinite(distances), distances, np.nan)
    usual = np.maximum(np.nanmedian(finite, axis=1, keepdims=True), SAME)
    return mean_of_smallest(distances / usual, k) * np.nanmedian(finite)
