"""Verdicts on photos: flagged, look, passed, or undecided [ours].

A threshold alone would pass a photo just below it. So a person should also look at the photos just below the threshold,
and no photo passes in a set that is too small. report/active_calibration.js does the same in the browser:
change both. tests/report/test_active_calibration.py compares them.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

PhotoVerdict = Literal["flagged", "look", "passed", "undecided"]
LOOK_P_VALUE = 0.05
"""A photo is worth a look if fewer good parts than this share score as high."""
LOOK_PROBABILITY = 0.2
"""With a person's answers: a photo is worth a look from this probability of a defect."""
PHOTOS_TO_LOOK_AT = 5
"""Number of highest photos below the threshold that are worth a look whatever their score."""


def verdicts(
    flagged: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    p_values: Float[np.ndarray, " n"],
    *,
    good: Bool[np.ndarray, " n"] | None = None,
    defective: Float[np.ndarray, " n"] | None = None,
    enough: bool = True,
) -> list[PhotoVerdict]:
    """The verdict on each of n photos.

    A photo that is not flagged is worth a look if its p-value is below `LOOK_P_VALUE` (with answers: if its probability
    of a defect is at least `LOOK_PROBABILITY`), or if it is one of the `PHOTOS_TO_LOOK_AT` highest of them. All others
    pass, or are undecided if there are too few photos.

    `flagged` photos reach the threshold, or a person called them defective; those called `good` pass. `defective` are
    probabilities of a defect from a person's answers (`ActiveCalibrator.defective`), which replace the p-values. The
    threshold rests on `enough` photos if they are at least `threshold.MIN_PHOTOS` (of the set, or of a bank).
    """
    flagged = np.asarray(flagged, bool)
    open_ = ~flagged
    if good is not None:
        open_ &= ~np.asarray(good, bool)
    suspicious = np.asarray(p_values) < LOOK_P_VALUE if defective is None else np.asarray(defective) >= LOOK_PROBABILITY
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    look = suspicious.copy()
    look[order[open_[order]][:PHOTOS_TO_LOOK_AT]] = True

    too_few = np.full(len(open_), not enough)
    return np.select([flagged, ~open_, too_few, look], ["flagged", "passed", "undecided", "look"], "passed").tolist()
