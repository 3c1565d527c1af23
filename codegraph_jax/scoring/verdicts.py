"""What is said of each photo: flagged, worth a look, passed, or not judged. [ours]

A threshold alone would call a photo just below it sound. So the photos next below the threshold are shown to a person
too, and in a set that is too small to tell, no photo passes. report/looks.js does the same in the browser; a test holds
the two together.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

Verdict = Literal["flagged", "look", "passed", "not judged"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LOOK_P_VALUE = 0.05
"""A photo is worth a look if fewer good parts than this share score as high."""
LOOK_PROBABILITY = 0.2
"""The same once a person has answered for some photos: the probability of a defect from which a photo is."""
FEWEST_TO_LOOK_AT = 5
"""The highest photos below the threshold are worth a look whatever they score."""
FEWEST = 12
"""Photos below which none passes."""


def verdicts(
    flagged: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    p_values: Float[np.ndarray, " n"],
    *,
    good: Bool[np.ndarray, " n"] | None = None,
    defective: Float[np.ndarray, " n"] | None = None,
    enough: bool = True,
) -> list[Verdict]:
    """The verdict on each of n photos.

    A photo that is not flagged is worth a look if its p-value is below `LOOK_P_VALUE` (or its probability of a defect
    at least `LOOK_PROBABILITY`, where that is known), or if it is among the next `FEWEST_TO_LOOK_AT` by score. All
    others pass; where there are too few photos they are not judged.

    Args:
        flagged: photos that reach the threshold, or were called defective by a person.
        scores: by which photos are ranked, larger is more anomalous; of equal ones the first comes first.
        p_values: share of good parts that score so high.
        good: photos that a person called good: they pass. None: none.
        defective: probability of a defect by a person's answers (`ActiveCalibrator.defective`); it replaces the
            p-values. None: nobody has answered.
        enough: whether the threshold rests on at least `FEWEST` photos (of the set, or of a bank).
    """
    open_ = ~np.asarray(flagged, bool)
    if good is not None:
        open_ &= ~np.asarray(good, bool)
    suspicious = np.asarray(p_values) < LOOK_P_VALUE if defective is None else np.asarray(defective) >= LOOK_PROBABILITY
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    look = suspicious.copy()
    look[order[open_[order]][:FEWEST_TO_LOOK_AT]] = True

    def verdict(i: int) -> Verdict:
        if flagged[i]:
            return "flagged"
        if not open_[i]:
            return "passed"
        if not enough:
            return "not judged"
        return "look" if look[i] else "passed"

    return [verdict(i) for i in range(len(open_))]
