"""Several ways to score the same images held against each other: how alike they rank, and which is better by chance."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from codegraph_jax.core.auroc import auroc

DRAWS = 1000
"""Resampled sets by which two are told apart."""
CERTAIN = 0.95
"""Share of resampled sets in which the best must stay better for the difference to count."""


@dataclass(frozen=True)
class ImageScores:
    """Of one category.

    Attributes:
        labels: 0 normal, 1 anomalous, None where it is not known.
        values: their scores.
    """

    labels: list[int | None]
    values: Float[np.ndarray, " n"]


def correlation(one: Mapping[str, ImageScores], other: Mapping[str, ImageScores]) -> float:
    """Spearman's rank correlation of the images' scores, the mean over categories; NaN where scores are all equal."""
    return float(np.mean([spearmanr(own.values, other[name].values).statistic for name, own in one.items()]))


def not_significantly_worse(one: Mapping[str, ImageScores], best: Mapping[str, ImageScores]) -> bool:
    """Whether chance may have made the difference of two image AUROC: a paired bootstrap over the images."""
    rng = np.random.default_rng(0)
    differences = np.zeros(DRAWS)
    for name, own in one.items():
        known = [i for i, label in enumerate(own.labels) if label is not None]
        labels = np.array([own.labels[i] for i in known])
        if len(set(labels)) < 2:
            continue
        kinds = [np.flatnonzero(labels == kind) for kind in (0, 1)]
        drawn = [rng.choice(kind, (DRAWS, len(kind))) for kind in kinds]
        values = [auroc(*(scores.values[known][places] for places in drawn)) for scores in (best[name], own)]
        differences += values[0] - values[1]
    return bool((differences > 0).mean() < CERTAIN)
