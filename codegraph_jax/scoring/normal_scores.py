"""The law of the scores of normal images, fitted to a set without labels. [ours]

The score of an image is the greatest of many patch scores. The scores of a set are those of normal images and of an
unknown share of anomalous ones (`codegraph_jax.scoring.score_models`). Few scores say little about the parameters of
such a model, and a threshold that takes one estimate for the truth flags too much. So none is taken: p-values are
averaged over the parameters, each weighted by how well it explains the scores and by a prior (the posterior predictive
distribution; Gelman et al., Bayesian Data Analysis, 3rd edition, section 1.3), for a small, a middle and a large share
of anomalies apart, since these explain the same scores in different ways (`codegraph_jax.scoring.importance`).

Its limits: a variety of normal parts that is rare and scores high by itself cannot be told from anomalies by scores,
and is flagged; and where anomalous images score no higher than normal ones, none is (benchmarks/log/threshold.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import interpolate, optimize, special, stats

from codegraph_jax.core.errors import UserError
from codegraph_jax.scoring.importance import Sample, sample_posterior
from codegraph_jax.scoring.score_models import ALONE, SMALLEST, Contaminated, Flat, share_rank

STRATA = ((0.0, 0.85), (0.2, 0.65), (0.45, 0.4))
"""Least share of anomalies in each part of the prior, and the share of the lowest scores where its search begins."""
LOWER = 0.7
"""Share of the scores, the lowest, that units of place and scale are taken from."""
BINS, ENDS = 96, 3.2
"""Groups that stand for more scores than that: small ones at both ends, where the tails are, large ones between (normal
quantiles from -ENDS to ENDS)."""
TABLE = np.linspace(-4.0, 12.0, 129)
"""Places of the table of log p-values, in standard deviations from the mean."""
NONE = 1e-9
"""Prior mass of shares that stands for a set without anomalies."""
LEAST_WEIGHT = 1e-7
"""Parameters that count for less are left out of the average."""
USUAL_SPREAD = 0.1
"""Standard deviation of equal scores, as a share of them: about that of the scores of a usual product."""


class NotFinite(UserError):
    """Scores that are no numbers."""


@dataclass(frozen=True)
class NormalScores:
    """The law of the raw scores of normal images.

    Attributes:
        location: its mean.
        scale: its standard deviation.
        share: share of the images that it explains.
        unknown: chance that a normal image is nothing that the set has shown; its scores have a heavy tail.
        log_survival: logarithm of the p-value at location + scale * TABLE, but for what is unknown.
    """

    location: float
    scale: float
    share: float
    unknown: float
    log_survival: tuple[float, ...]

    def p_values(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How often a normal image scores so high; never 0."""
        z = self._standard(scores)
        known = np.exp(np.minimum(self._log_survival(z), 0.0))
        return (1 - self.unknown) * known + self.unknown / (1 + np.maximum(z, 0))

    def quantile(self, p_value: float) -> float:
        """The score that has this p-value."""

        def excess(z: float) -> float:
            return float(np.log(self.p_values(np.array([self.location + self.scale * z]))[0] / p_value))

        low, high = TABLE[0], TABLE[-1]
        while excess(low) < 0 and low > -1e6:
            low *= 2
        while excess(high) > 0:
            high *= 2
        return self.location + self.scale * float(optimize.brentq(excess, low, high, xtol=1e-10))

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return {
            "location": self.location,
            "scale": self.scale,
            "share": self.share,
            "unknown": self.unknown,
            "log_survival": list(self.log_survival),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "NormalScores":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        location, scale, share, unknown = (float(values[name]) for name in ("location", "scale", "share", "unknown"))
        log_survival = tuple(float(value) for value in values["log_survival"])
        known = np.array(log_survival)
        if known.shape != TABLE.shape or not (np.diff(known) <= 0).all() or not 0 <= unknown <= 1 or not scale > 0:
            raise ValueError("the numbers of a law of normal scores do not fit together")
        return cls(location, scale, share, unknown, log_survival)

    def _standard(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return (np.asarray(scores, np.float64) - self.location) / self.scale

    @cached_property
    def _log_survival(self) -> Any:
        return _MonotoneLogarithm(np.array(self.log_survival))


class _MonotoneLogarithm:
    """A table of logarithms as a function: monotone between its places, a straight line beyond."""

    def __init__(self, values: Float[np.ndarray, " t"]):
        self._inside = interpolate.PchipInterpolator(TABLE, values)
        self._slope = min((values[-1] - values[-2]) / (TABLE[-1] - TABLE[-2]), -SMALLEST)

    def __call__(self, z: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return self._inside(np.clip(z, TABLE[0], TABLE[-1])) + self._slope * np.maximum(z - TABLE[-1], 0)


@dataclass(frozen=True)
class Explained:
    """What a set of scores tells.

    Attributes:
        law: of the scores of normal images.
        anomalous: for each score, in their order, the probability that the image is anomalous [n].
        even: probability that all images are normal and their scores spread as evenly as those of two equal halves.
    """

    law: NormalScores
    anomalous: Float[np.ndarray, " n"]
    even: float


def fit_normal_scores(scores: Float[np.ndarray, " n"], at_most: float = 1.0) -> NormalScores:
    """The law of the normal images of a contaminated set; arguments and errors as for `explain_scores`."""
    return explain_scores(scores, at_most).law


def explain_scores(scores: Float[np.ndarray, " n"], at_most: float = 1.0) -> Explained:
    """Which scores normal images of a contaminated set have, and which of the images may be anomalous.

    Args:
        scores: at least one; equal scores of copies of one image should count once.
        at_most: the largest share of anomalous images that is possible; from `score_models.MOST` on, any is.

    Raises:
        NotFinite: some are infinite or no numbers.
    """
    order = np.argsort(np.asarray(scores, np.float64), kind="stable")
    scores = np.asarray(scores, np.float64)[order]
    if not np.isfinite(scores).all():
        raise NotFinite(
            f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} image scores are not finite numbers; such "
            "scores have no threshold"
        )
    count = len(scores)
    unknown = 1 / (count + 1) ** 2
    spread = float(scores[-1] - scores[0])
    if spread <= 1e-9 * max(abs(scores[0]), 1e-9):
        scale = max(USUAL_SPREAD * abs(scores[0]), 1e-9)
        table = tuple(stats.norm.logsf(TABLE).tolist())
        return Explained(NormalScores(float(scores[0]), float(scale), 1.0, unknown, table), np.zeros(count), 0.0)
    place, unit = _units(scores, LOWER)
    groups = np.split((scores - place) / unit, _edges(count))
    values, sizes = np.array([group.mean() for group in groups]), np.array([float(len(group)) for group in groups])
    samples = []
    for model, (own_place, own_unit) in [*_contaminated(scores, at_most), (Flat(), (place, unit))]:
        start = np.zeros(len(model.SCALES))
        start[:2] = (own_place - place) / unit, np.log(own_unit / unit)
        spread = np.minimum(model.SCALES, np.where(np.arange(len(start)) < 2, 0.5, 1.0))
        likelihood = partial(model.log_likelihood, values=values, sizes=sizes)
        samples.append((model, sample_posterior(likelihood, model.SCALES, start, spread)))
    location, scale, share, log_survival, chances, even = _predict(samples, values)
    anomalous = np.empty(count)
    anomalous[order] = np.repeat(chances, sizes.astype(int))
    return Explained(NormalScores(place + unit * location, unit * scale, share, unknown, log_survival), anomalous, even)


def _edges(count: int) -> Int[np.ndarray, " g"]:
    """Where sorted scores are cut into groups."""
    if count <= BINS:
        return np.arange(1, count)
    edges = np.round(count * special.ndtr(np.linspace(-ENDS, ENDS, BINS + 1)))[1:-1].astype(int)
    return np.unique(np.clip(edges, 1, count - 1))


def _contaminated(
    scores: Float[np.ndarray, " n"], at_most: float
) -> list[tuple[Contaminated | Flat, tuple[float, float]]]:
    """A model for each range of possible shares of anomalies, and where its search begins: place and unit."""
    most = max(share_rank(at_most), NONE)
    ranks = [(share_rank(least), lowest) for least, lowest in STRATA]
    possible = [(rank, lowest) for rank, lowest in ranks if rank < most]
    ends = [*(rank for rank, _ in possible[1:]), most]
    return [
        (Contaminated(rank, end, (1 - ALONE) / most), _units(scores, lowest))
        for (rank, lowest), end in zip(possible, ends)
    ]


def _units(scores: Float[np.ndarray, " n"], share: float) -> tuple[float, float]:
    """Median and spread of the lowest of sorted scores."""
    lowest = scores[: max(2, int(np.ceil(share * len(scores))))]
    return float(np.median(lowest)), 1.2 * max(float(lowest.std()), 1e-3 * float(scores[-1] - scores[0]))


def _predict(
    samples: list[tuple[Contaminated | Flat, Sample]], values: Float[np.ndarray, " v"]
) -> tuple[float, float, float, tuple[float, ...], Float[np.ndarray, " v"], float]:
    """Over all models: mean, standard deviation and share of normal scores, the table of their log p-values, the
    probability that each value is of an anomalous image, and that of a law that is flat."""
    evidence = special.softmax([model.log_weight + sample.log_evidence for model, sample in samples])
    parts = []
    for own, (model, sample) in zip(evidence, samples):
        counting = own * sample.weights > LEAST_WEIGHT
        parts.append((model, sample.latent[counting], own * sample.weights[counting]))
    weights = np.concatenate([part for _, _, part in parts])
    weights /= weights.sum()
    mean, deviation, share = (np.concatenate(values) for values in zip(*(m.moments(latent) for m, latent, _ in parts)))
    location, scale = float(weights @ mean), float(weights @ deviation)
    places = location + scale * TABLE
    survival = np.concatenate([model.survival(latent, places) for model, latent, _ in parts], axis=1) @ weights
    table = np.minimum.accumulate(np.log(np.maximum(survival, SMALLEST)))
    chances = np.concatenate([model.anomalous(latent, values) for model, latent, _ in parts]).T @ weights
    even = float(np.concatenate([model.even(latent) for model, latent, _ in parts]) @ weights)
    return location, scale, float(weights @ share), tuple(table.tolist()), chances, even
