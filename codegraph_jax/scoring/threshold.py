"""A threshold without labels, from a false-alarm rate.

The distribution of normal scores is fitted to the set itself (`scoring.normal_scores`). The p-value of an image is the
share of normal images that score as high; the threshold is the score whose p-value is the false-alarm rate. Members of
a recurring defect are flagged whatever their score and left out of the fit: they lower each other's scores, and a fit
that treats them as normal would be too wide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.core.files import finite_or_none
from codegraph_jax.core.json_fields import JsonFields
from codegraph_jax.scoring.normal_scores import NormalScores, ScoreFit, fit_scores

MIN_PHOTOS = 12
"""Minimum number of photos for a reliable threshold, and for any of them to pass; with fewer, its error
exceeds one standard deviation of normal scores (benchmarks/log/threshold.md, "Threshold")."""
MANY_FLAGGED = 0.2
"""Share of flagged images from which `Calibration.warning` asks whether so many can be defective."""
MANY_MISSED = 0.1
"""Expected share of missed defective images from which `Calibration.warning` says that scores do not separate them."""
FEW_DEFECTIVE = 3
"""Minimum number of images for these two warnings."""
MIN_SHARE_FOR_EVEN = 0.45
"""If `max_defective` is smaller, evenly spread scores are taken for those of good images."""
NO_LIMIT = 1.0
"""`threshold.max_defective` if the user has set no limit."""
MIN_EVEN_PROBABILITY = 0.75
"""Probability of evenly spread scores from which the warning says that half of the images may be defective."""
UNUSUAL_P_VALUE = 0.1
"""A patch stands out if at most 1 normal image in 10 has such a score anywhere."""
TYPICAL_P_VALUE = 0.5
"""A flagged region ends above the score that 1 normal image in 2 has anywhere."""


MAYBE_INFINITE = ("threshold", "patch_threshold")
"""Fields that are infinite if nothing is flagged."""


@dataclass(frozen=True)
class ThresholdWarning(JsonFields):
    """Why a person should check the flags; `report.wording` has the sentences.

    Attributes:
        kind: `not_separate`: the scores do not separate good from defective images; `even`: they are spread evenly, and
            all images may be good, or half of them defective; `many`: good images may be among the flagged ones.
        flagged: number of flagged images.
        image_count: number of images.
        missed: expected number of defective images that are not flagged.
    """

    kind: Literal["not_separate", "even", "many"]
    flagged: int
    image_count: int
    missed: int


DecidedBy = Literal["rate", "score", "share", "answers", "manual"]


@dataclass(frozen=True)
class Calibration(JsonFields):
    """The thresholds of a set, and the distribution of its normal scores.

    Attributes:
        threshold: images with this score or more are flagged; infinite if no image can be flagged.
        patch_threshold: lowest score of a patch that stands out; at most `threshold`.
        decided_by: origin of the threshold: the rule `rate` (of false alarms), `score` or `share` (of images),
            `answers` (a person's answers to some photos), or `manual` (set in the report).
        expected_rate: expected share of normal images above the threshold.
        set_size: number of images of the set.
        image_count: number of images in the fit.
        normal_scores: distribution of the scores of normal images.
        max_defective: largest possible share of defective images.
        min_defect_length: images whose regions are all shorter, in pixels, are not flagged
            (`scoring.regions.only_short_regions`).
        warning: why a person should check the verdicts; None without a reason.
    """

    threshold: float
    patch_threshold: float
    decided_by: DecidedBy
    expected_rate: float
    set_size: int
    image_count: int
    normal_scores: NormalScores
    max_defective: float = 1.0
    min_defect_length: float = 0.0
    warning: ThresholdWarning | None = None

    @property
    def too_few_photos(self) -> bool:
        """Whether the set, of this run or of a bank, is too small for any photo to pass."""
        return self.set_size < MIN_PHOTOS

    @property
    def score_of_1_in_10(self) -> float:
        """The score that 1 in 10 normal images reaches anywhere."""
        return float(self.normal_scores.quantile(UNUSUAL_P_VALUE))

    @property
    def score_of_1_in_2(self) -> float:
        """The score that 1 in 2 normal images reaches anywhere."""
        return float(self.normal_scores.quantile(TYPICAL_P_VALUE))

    def p_values(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Share of normal images that score as high; scores are the greatest values of anomaly maps."""
        return self.normal_scores.p_values(np.asarray(scores, np.float64))

    def flags(
        self, scores: Float[np.ndarray, " n"], defect_members: Bool[np.ndarray, " n"] | None = None
    ) -> Bool[np.ndarray, " n"]:
        """The images that reach the threshold, and the members of a recurring defect (`defect_members`).

        Members are not flagged if a `score`, a `share` or a person's threshold decides.
        """
        flagged: np.ndarray = scores >= self.threshold
        if defect_members is not None and self.decided_by in ("rate", "answers"):
            flagged = flagged | defect_members
        return flagged

    def with_threshold(self, threshold: float, decided_by: DecidedBy) -> "Calibration":
        """The same distribution with another threshold, and without a warning."""
        rate = float(self.normal_scores.p_values(np.array([threshold]))[0]) if np.isfinite(threshold) else 0.0
        return replace(
            self,
            threshold=float(threshold),
            patch_threshold=float(min(self.score_of_1_in_10, threshold)),
            decided_by=decided_by,
            expected_rate=rate,
            warning=None,
        )

    def as_json(self) -> dict[str, Any]:
        """Values for JSON, which has no infinity; `from_json` reads them."""
        return super().as_json() | {name: finite_or_none(getattr(self, name)) for name in MAYBE_INFINITE}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], **others: Any) -> "Calibration":
        """Reads the values of `as_json`."""
        infinite = {name: np.inf for name in MAYBE_INFINITE if values[name] is None}
        return super().from_json({**values, **infinite}, **others)


def calibrate(
    image_scores: Float[np.ndarray, " n"], config: ThresholdConfig, defect_members: Bool[np.ndarray, " n"] | None = None
) -> Calibration:
    """Chooses the thresholds of a set from its own scores, the greatest values of anomaly maps before re-scoring.

    Members of a recurring defect (`defect_members`) are left out of the fit unless all images are members.

    Raises:
        NonFiniteScoresError: some scores are infinite or not numbers.
    """
    scores = np.asarray(image_scores, np.float64)
    fitted = scores if defect_members is None or defect_members.all() else scores[~defect_members]
    fit = fit_scores(fitted, config.defective_limit)
    normal = fit.normal_scores
    kind, value = config.parsed_rule
    if kind == "share":
        count = int(round(value * len(scores)))
        threshold = float(np.sort(scores)[-count]) if count else np.inf
    else:
        threshold = value if kind == "score" else normal.quantile(value)
    calibration = Calibration(
        threshold=np.inf,
        patch_threshold=np.inf,
        decided_by=kind,
        expected_rate=0.0,
        set_size=len(scores),
        image_count=len(fitted),
        normal_scores=normal,
        max_defective=config.defective_limit,
        min_defect_length=config.min_defect_length,
    ).with_threshold(threshold, kind)
    if kind == "rate" and len(fitted) >= MIN_PHOTOS:
        members = len(scores) - len(fitted)
        calibration = replace(calibration, warning=_warning(fit, fitted >= threshold, members, config.defective_limit))
    return calibration


def _warning(
    fit: ScoreFit, flagged: Bool[np.ndarray, " n"], members: int, max_defective: float
) -> ThresholdWarning | None:
    """Why a person should check the flags of the images in the fit; None without a reason.

    Members of recurring defects, which are flagged anyway, cause no warning but are counted in it.
    """
    count, flagged_count = len(flagged), int(flagged.sum())
    missed = float(fit.anomaly_probabilities[~flagged].sum())
    kind: Literal["not_separate", "even", "many"]
    if missed >= max(MANY_MISSED * count, FEW_DEFECTIVE):
        kind = "not_separate"
    elif fit.even_probability >= MIN_EVEN_PROBABILITY and max_defective >= MIN_SHARE_FOR_EVEN:
        kind, members = "even", 0
    elif flagged_count >= max(MANY_FLAGGED * count, FEW_DEFECTIVE) and max_defective >= NO_LIMIT:
        kind = "many"
    else:
        return None
    return ThresholdWarning(kind, flagged_count + members, count + members, round(missed))
