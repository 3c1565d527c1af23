"""Compares measurements of the same images: rank correlation, and paired differences with bootstrap intervals.

Resampled sets are the same for both sides, so that what is hard for both cancels out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float, Real

from codegraph_jax.core.auroc import auroc

DRAWS = 1000
"""Number of bootstrap samples."""
COVERAGE = 0.95
"""Share of the bootstrap samples inside an interval, with equal shares below and above it."""


@dataclass(frozen=True)
class LabelledScores:
    """Image scores of one category.

    Attributes:
        labels: 0 good, 1 defective, None unknown.
        values: scores of the images.
    """

    labels: Sequence[int | None]
    values: Real[np.ndarray, " n"]


class Interval(NamedTuple):
    """A measurement or a difference with its two-sided 95% bootstrap interval.

    Attributes:
        value: of the given images.
        low, high: percentiles over resampled sets.
    """

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval of a difference excludes 0."""
        return self.low > 0 or self.high < 0

    @classmethod
    def of(cls, value: float, draws: Float[np.ndarray, " d"]) -> "Interval":
        """A value with the percentiles of the resampled values."""
        tail = 50 * (1 - COVERAGE)
        low, high = np.percentile(draws, (tail, 100 - tail))
        return cls(float(value), float(low), float(high))


def correlation(one: Mapping[str, LabelledScores], other: Mapping[str, LabelledScores]) -> float:
    """Spearman's rank correlation of the image scores, averaged over categories; NaN if all scores are equal."""
    return float(
        np.mean([scipy.stats.spearmanr(scores.values, other[name].values).statistic for name, scores in one.items()])
    )


def auroc_difference(one: Mapping[str, LabelledScores], other: Mapping[str, LabelledScores]) -> Interval | None:
    """Image AUROC of `one` minus that of `other`, averaged over categories, by a paired bootstrap over the images.

    Normal and anomalous images are resampled separately, each category by itself. None if no category has both.
    """
    rng = np.random.default_rng(0)
    exact, draws = [], []
    for name, scores in one.items():
        labelled = [i for i, label in enumerate(scores.labels) if label is not None]
        labels = np.array([scores.labels[i] for i in labelled])
        if len(set(labels.tolist())) < 2:
            continue
        classes = [np.flatnonzero(labels == label) for label in (0, 1)]
        samples = [rng.choice(rows, (DRAWS, len(rows))) for rows in classes]
        sides = [np.asarray(side.values)[labelled] for side in (scores, other[name])]
        exact.append(np.subtract(*(auroc(*(side[rows] for rows in classes)) for side in sides)))
        draws.append(np.subtract(*(auroc(*(side[rows] for rows in samples)) for side in sides)))
    return Interval.of(float(np.mean(exact)), np.mean(draws, axis=0)) if exact else None


def not_significantly_worse(one: Mapping[str, LabelledScores], best: Mapping[str, LabelledScores]) -> bool:
    """Whether the image AUROC is not significantly worse than the best one, see `auroc_difference`."""
    difference = auroc_difference(best, one)
    return difference is None or difference.low <= 0
