"""Compares the image scores of several backbones: rank correlation, and significance of AUROC differences."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from codegraph_jax.core.auroc import auroc

DRAWS = 1000
"""Number of bootstrap samples."""
CERTAIN = 0.95
"""A difference is significant if the best backbone is better in this share of the bootstrap samples."""


@dataclass(frozen=True)
class ImageScores:
    """Image scores of one category.

    Attributes:
        labels: 0 normal, 1 anomalous, None unknown.
        values: scores of the images.
    """

    labels: list[int | None]
    values: Float[np.ndarray, " n"]


def correlation(one: Mapping[str, ImageScores], other: Mapping[str, ImageScores]) -> float:
    """Spearman's rank correlation of the image scores, averaged over categories; NaN if all scores are equal."""
    return float(
        np.mean([scipy.stats.spearmanr(own.values, other[name].values).statistic for name, own in one.items()])
    )


def not_significantly_worse(one: Mapping[str, ImageScores], best: Mapping[str, ImageScores]) -> bool:
    """Whether the image AUROC is not significantly worse than the best one, by a paired bootstrap over the images."""
    rng = np.random.default_rng(0)
    differences = np.zeros(DRAWS)
    for name, own in one.items():
        labelled = [i for i, label in enumerate(own.labels) if label is not None]
        labels = np.array([own.labels[i] for i in labelled])
        if len(set(labels)) < 2:
            continue
        classes = [np.flatnonzero(labels == label) for label in (0, 1)]
        samples = [rng.choice(rows, (DRAWS, len(rows))) for rows in classes]
        values = [auroc(*(scores.values[labelled][rows] for rows in samples)) for scores in (best[name], own)]
        differences += values[0] - values[1]
    return bool((differences > 0).mean() < CERTAIN)
