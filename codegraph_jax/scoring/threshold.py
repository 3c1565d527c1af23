"""A threshold without labels: which images of a set are flagged, and how often a normal one is by mistake.

The law of normal scores is fitted to the set itself (`codegraph_jax.scoring.normal_scores`). The p-value of an image
is how often a normal one scores so high, and the threshold is the score whose p-value is the false-alarm rate that was
asked for. Members of a recurring defect are flagged whatever they score, and left out of the fit: they lower each
other's scores, and a law that takes them for normal is too wide for all others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.core.files import finite_or_none
from codegraph_jax.scoring.normal_scores import Explained, NormalScores, explain_scores

FEWEST = 12
"""Scores below which a threshold is rough: what it should be is then uncertain by more than a standard deviation of
normal scores (benchmarks/log/threshold.md, "Threshold")."""
MANY = 0.2
"""From this share of flagged images on the run asks whether so many can be defective: few lines make so many, and a
second variety of good parts looks the same to scores."""
MISSED = 0.1
"""From this share of images that pass and may be defective on (expected number) the run says that scores do not decide,
and from FEW images on."""
FEW = 3
SECOND_HALF = 0.45
"""Where fewer images can be defective, evenly spread scores are those of good ones."""
ALL = 1.0
"""`threshold.at_most` where nobody has said how many can be defective."""
EVEN = 0.75
"""From this probability of evenly spread scores on the run says that half of the images may be defective."""
UNUSUAL_P_VALUE = 0.1
"""A patch stands out from the score on that one normal image in ten reaches anywhere."""
TYPICAL_P_VALUE = 0.5
"""A flagged region does not reach below the score that every other normal image reaches anywhere."""


@dataclass(frozen=True)
class Calibration:
    """Which images and patches count as anomalous.

    Attributes:
        threshold: raw image scores from it on are flagged; infinite where nothing is.
        patch_threshold: patches stand out from this score on; at most `threshold`.
        p_values: how often a normal image scores so high [n].
        flagged: which images reach the threshold, or are members of a recurring defect [n].
        rule: how the threshold came about: by the `rate` of false alarms, `given`, by the `share` of images, or by a
            person's answers to some photos (`looks`).
        expected_rate: share of normal images that the law expects above the threshold.
        images: how many images the law was fitted to.
        normal_scores: the law of the raw scores of normal images.
        at_most: the largest share of defective images that was said to be possible.
        doubt: why the verdicts need a person, in one or two sentences for one; empty where they do not.
    """

    threshold: float
    patch_threshold: float
    p_values: Float[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    rule: str
    expected_rate: float
    images: int
    normal_scores: NormalScores
    at_most: float = 1.0
    doubt: str = ""

    @property
    def rough(self) -> bool:
        """Whether the threshold is rough, since it was fitted to few images."""
        return self.rule == "rate" and self.images < FEWEST

    @property
    def unusual(self) -> float:
        """The score that one normal image in ten reaches anywhere, whatever the threshold is."""
        return float(self.normal_scores.quantile(UNUSUAL_P_VALUE))

    @property
    def typical(self) -> float:
        """The score that one normal image in two reaches anywhere."""
        return float(self.normal_scores.quantile(TYPICAL_P_VALUE))

    def of(self, scores_raw: Float[np.ndarray, " k"], proven: Bool[np.ndarray, " k"] | None = None) -> "Calibration":
        """The same thresholds held against other scores, which change nothing of them.

        Args:
            scores_raw: greatest value of each anomaly map.
            proven: members of a recurring defect; they are flagged where the threshold follows from a rate.
        """
        p_values = self.normal_scores.p_values(np.asarray(scores_raw, np.float64))
        flagged = scores_raw >= self.threshold
        if proven is not None and self.rule in ("rate", "looks"):
            flagged = flagged | proven
        return replace(self, p_values=p_values, flagged=flagged)

    def moved(self, threshold: float, rule: str) -> "Calibration":
        """The same law with another threshold, that of the `rule`, and no doubt; `of` holds it against scores."""
        rate = float(self.normal_scores.p_values(np.array([threshold]))[0]) if np.isfinite(threshold) else 0.0
        return replace(
            self,
            threshold=float(threshold),
            patch_threshold=float(min(self.unusual, threshold)),
            rule=rule,
            expected_rate=rate,
            doubt="",
        )

    def as_json(self) -> dict[str, Any]:
        """All but the arrays, for a file; `from_json` reads it."""
        return {
            # JSON has no infinity, which is the threshold where nothing can be flagged
            "threshold": finite_or_none(self.threshold),
            "patch_threshold": finite_or_none(self.patch_threshold),
            "rule": self.rule,
            "expected_rate": self.expected_rate,
            "images": self.images,
            "normal_scores": self.normal_scores.as_json(),
            "at_most": self.at_most,
            "doubt": self.doubt,
        }

    @classmethod
    def from_json(
        cls, values: Mapping[str, Any], p_values: Float[np.ndarray, " n"], flagged: Bool[np.ndarray, " n"]
    ) -> "Calibration":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        threshold, patch_threshold = (
            np.inf if values[name] is None else float(values[name]) for name in ("threshold", "patch_threshold")
        )
        rule, rate = str(values["rule"]), float(values["expected_rate"])
        law, images = NormalScores.from_json(values["normal_scores"]), int(values["images"])
        at_most, doubt = float(values["at_most"]), str(values["doubt"])
        return cls(threshold, patch_threshold, p_values, flagged, rule, rate, images, law, at_most, doubt)


def calibrate(
    scores_raw: Float[np.ndarray, " n"], config: ThresholdConfig, proven: Bool[np.ndarray, " n"] | None = None
) -> Calibration:
    """Chooses the thresholds of a set from its own scores.

    Args:
        scores_raw: greatest value of each anomaly map, before re-scoring.
        config: the rule, and how many images can be defective.
        proven: members of a recurring defect, which are left out of the fit.

    Raises:
        NotFinite: some scores are infinite or no numbers.
    """
    scores = np.asarray(scores_raw, np.float64)
    # where all are members, they are what there is
    fitted = scores if proven is None or proven.all() else scores[~proven]
    explained = explain_scores(fitted, config.at_most)
    law = explained.law
    rule = "rate"
    kind, value = config.chosen
    if kind == "score":
        threshold, rule = value, "given"
    elif kind == "share":
        count = int(round(value * len(scores)))
        threshold, rule = (float(np.sort(scores)[-count]) if count else np.inf), "share"
    else:
        threshold = law.quantile(value)
    calibration = Calibration(
        threshold=float(threshold),
        patch_threshold=float(min(law.quantile(UNUSUAL_P_VALUE), threshold)),
        p_values=np.zeros(0),
        flagged=np.zeros(0, bool),
        rule=rule,
        expected_rate=float(law.p_values(np.array([threshold]))[0]),
        images=len(fitted),
        normal_scores=law,
        at_most=config.at_most,
    )
    if rule == "rate" and not calibration.rough:
        calibration = replace(calibration, doubt=_doubt(explained, fitted >= threshold, config.at_most))
    return calibration.of(scores_raw, proven)


def _doubt(explained: Explained, flagged: Bool[np.ndarray, " n"], at_most: float) -> str:
    """What a person should be asked about the verdicts on the images that the law was fitted to; often nothing."""
    count, some = len(flagged), int(flagged.sum())
    missed = float(explained.anomalous[~flagged].sum())
    if missed >= max(MISSED * count, FEW):
        said = (
            f"The scores do not separate good from defective photos: {some} of {count} are flagged, and about "
            f"{round(missed)} of the others may be defective."
        )
    elif explained.even >= EVEN and at_most >= SECOND_HALF:
        said = f"The scores are spread evenly: all {count} photos may be good, or up to half of them defective."
    elif some >= max(MANY * count, FEW) and at_most >= ALL:
        said = f"{some} of {count} photos are flagged; if so many cannot be defective, good ones are among them."
    else:
        return ""
    return (
        f"{said} Look at a few photos near the threshold, or set threshold.at_most to the largest share that can be "
        "defective."
    )
