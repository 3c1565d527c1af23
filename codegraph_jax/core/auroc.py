"""Area under the ROC curve of scores."""

import numpy as np
import scipy
from jaxtyping import Float


def auroc(negative: Float[np.ndarray, "... a"], positive: Float[np.ndarray, "... b"]) -> Float[np.ndarray, "..."]:
    """The probability that a positive example scores higher than a negative one; a tie counts as half.

    Computed from the ranks of the positive examples (Mann and Whitney, 1947), over the last axis.
    Scores are finite; leading axes are batch axes.
    """
    a, b = negative.shape[-1], positive.shape[-1]
    ranks = scipy.stats.rankdata(np.concatenate([negative, positive], axis=-1), axis=-1)[..., a:]
    return np.asarray((ranks.sum(axis=-1) - b * (b + 1) / 2) / (a * b))
