"""Verdicts on photos: flagged, to check, passed, or unknown [ours].

A threshold alone would pass a photo just below it. So a person should also check the photos just below the threshold,
and no photo passes in a set that is too small. report/active_calibration.js does the same in the browser: change both.
tests/report/test_active_calibration.py compares them.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

PhotoVerdict = Literal["flagged", "check", "passed", "unknown"]
CHECK_P_VALUE = 0.05
"""A photo is to be checked if fewer good parts than this share score as high."""
CHECK_PROBABILITY = 0.2
"""With a person's answers: a photo is to be checked from this probability of a defect."""
PHOTOS_TO_CHECK = 5
"""Number of highest photos below the threshold that are to be checked whatever their score."""


def verdicts_of(
    flagged: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    p_values: Float[np.ndarray, " n"],
    *,
    always_passed: Bool[np.ndarray, " n"] | None = None,
    defect_probabilities: Float[np.ndarray, " n"] | None = None,
    enough_photos: bool = True,
) -> list[PhotoVerdict]:
    """The verdict on each of n photos.

    A photo that is not flagged is to be checked if its p-value is below `CHECK_P_VALUE` (with answers: if its
    probability of a defect is at least `CHECK_PROBABILITY`), or if it is one of the `PHOTOS_TO_CHECK` highest of them.
    All others pass, or are unknown if there are too few photos.

    Args:
        flagged: photos that are flagged.
        scores: scores of the photos.
        p_values: share of normal photos that score as high.
        always_passed: photos that a person called good, or whose defects are tolerated.
        defect_probabilities: from a person's answers (`ActiveCalibrator.defect_probabilities`); they replace the
            p-values.
        enough_photos: whether the set or the bank has at least `threshold.MIN_PHOTOS` photos.
    """
    remaining = ~flagged if always_passed is None else ~flagged & ~always_passed
    check = p_values < CHECK_P_VALUE if defect_probabilities is None else defect_probabilities >= CHECK_PROBABILITY
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    check[order[remaining[order]][:PHOTOS_TO_CHECK]] = True

    too_few = np.full(len(remaining), not enough_photos)
    verdicts = ["flagged", "passed", "unknown", "check"]
    return np.select([flagged, ~remaining, too_few, check], verdicts, "passed").tolist()
