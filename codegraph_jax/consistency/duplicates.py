"""Finds near-duplicate photos of the same part, which must not be references for each other [ours].

Near-duplicates agree in all patches, images with a recurring defect in one region only. As references they would form
the densest community and hide each other's defects.
"""

import numpy as np
from jaxtyping import Bool

from codegraph_jax.scoring.distances import Distances

DUPLICATE_RANK, DUPLICATE_QUANTILE, MAX_DUPLICATE_RATIO = 5, 0.9, 0.5
"""Two images are duplicates if 90% of the patches of each are at most half as far from the other image as from their
fifth nearest image; so up to five photos of a part are recognised. Measured: magnetic tiles that were photographed
twice, most at another exposure, reach a ratio of 0.11 to 0.72, but two different screws in the same position 0.67, and
different parts must stay references for each other. Relative to the mutual score instead of the fifth nearest image,
hundreds of pairs of screws would be duplicates."""


def duplicate_pairs(distances: Distances) -> Bool[np.ndarray, "n m"]:
    """Which references show the same part as each image, without the image itself."""
    n, m, _ = distances.shape
    if m <= DUPLICATE_RANK:
        return np.zeros((n, m), bool)
    ratios = distances.relative_distances(DUPLICATE_RANK, DUPLICATE_QUANTILE)
    # both directions must agree; for an image that is not a reference only one direction is known
    columns = np.flatnonzero(distances.references >= 0)
    pairs = np.ix_(distances.references[columns], columns)
    reverse = ratios.copy()
    reverse[pairs] = ratios[pairs].T
    return np.maximum(ratios, reverse) < MAX_DUPLICATE_RATIO
