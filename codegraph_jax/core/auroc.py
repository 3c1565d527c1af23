"""Area under the ROC curve of scores."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def auroc(negative: Float[np.ndarray, "... a"], positive: Float[np.ndarray, "... b"]) -> Float[np.ndarray, "..."]:
    """The probability that a positive example scores higher than a negative one, ties counted by half.

    By the ranks of the positive ones (Mann and Whitney, 1947); of several sets at once where there are further axes.

    Args:
        negative, positive: finite scores, at least one of each.
    """
    a, b = negative.shape[-1], positive.shape[-1]
    ranks = rankdata(np.concatenate([negative, positive], axis=-1), axis=-1)[..., a:]
    return np.asarray((ranks.sum(axis=-1) - b * (b + 1) / 2) / (a * b))
