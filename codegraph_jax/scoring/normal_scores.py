"""Distribution of the scores of normal images, fitted to a set without labels [ours].

The scores of a set are a mixture of those of normal images and of an unknown share of anomalous images
(`scoring.score_models`). A few scores leave the parameters uncertain, and a threshold from a single estimate flags too
much. So p-values are averaged over the posterior (the posterior predictive distribution; Gelman et al., Bayesian Data
Analysis, 3rd edition, section 1.3). Small, medium and large shares of anomalies are sampled separately, since their
posteriors are separate modes (`scoring.importance_sampling`).

Limits: a rare variety of normal parts that scores high is flagged, since scores cannot distinguish it from anomalies;
anomalous images that score no higher than normal ones are not flagged (benchmarks/log/threshold.md).
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float, Int

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.json_fields import JsonFields
from codegraph_jax.scoring.importance_sampling import PosteriorSample, sample_posterior
from codegraph_jax.scoring.score_models import EPSILON, NORMAL_ONLY_WEIGHT, Contaminated, NormalOnly, share_rank

STRATA = ((0.0, 0.85), (0.2, 0.65), (0.45, 0.4))
"""Minimum share of anomalies in each part of the prior, and the share of lowest scores for its first proposal."""
LOWER_SHARE = 0.7
"""Share of the lowest scores from which the units of location and scale are taken."""
BINS, ENDS = 96, 3.2
"""Maximum number of groups of scores, small in both tails and large between (normal quantiles from -ENDS to ENDS)."""
TABLE = np.linspace(-4.0, 12.0, 129)
"""Positions of the table of log p-values, in standard deviations from the mean."""
MIN_PRIOR_MASS = 1e-9
"""Minimum prior mass of the shares, so that a set without anomalies has a model."""
MIN_WEIGHT = 1e-7
"""Parameters of less weight are left out of the average."""
USUAL_SPREAD = 0.1
"""Assumed ratio of standard deviation to score if all scores are equal: about that of a typical product."""


class NonFiniteScoresError(UserError):
    """Image scores that are infinite or not numbers."""


@dataclass(frozen=True)
class NormalScores(JsonFields):
    """Distribution of the raw scores of normal images.

    Attributes:
        mean: their mean.
        deviation: their standard deviation.
        normal_share: share of the images that are normal.
        unseen_probability: probability that a normal image differs from all of the set; the scores of such images have
            a heavy tail.
        log_survival: log p-value at mean + deviation * TABLE, without `unseen_probability`.
    """

    mean: float
    deviation: float
    normal_share: float
    unseen_probability: float
    log_survival: tuple[float, ...]

    def __post_init__(self) -> None:
        falling = len(self.log_survival) == len(TABLE) and (np.diff(self.log_survival) <= 0).all()
        if not falling or not 0 <= self.unseen_probability <= 1 or not self.deviation > 0:
            raise ValueError("inconsistent values of a distribution of normal scores")

    def p_values(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Share of normal images with at least these scores; never 0."""
        z = (np.asarray(scores, np.float64) - self.mean) / self.deviation
        beyond = np.maximum(z - TABLE[-1], 0)
        log_known = self._interpolated(np.clip(z, TABLE[0], TABLE[-1])) + self._last_slope * beyond
        known = np.exp(np.minimum(log_known, 0.0))
        unseen = self.unseen_probability
        return (1 - unseen) * known + unseen / (1 + np.maximum(z, 0))

    def quantile(self, p_value: float) -> float:
        """The score with this p-value."""

        def excess(z: float) -> float:
            return float(np.log(self.p_values(np.array([self.mean + self.deviation * z]))[0] / p_value))

        low, high = TABLE[0], TABLE[-1]
        while excess(low) < 0 and low > -1e6:
            low *= 2
        while excess(high) > 0:
            high *= 2
        return self.mean + self.deviation * float(scipy.optimize.brentq(excess, low, high, xtol=1e-10))

    @cached_property
    def _interpolated(self) -> Any:
        """The table of logarithms, with a monotone interpolation."""
        return scipy.interpolate.PchipInterpolator(TABLE, np.array(self.log_survival))

    @property
    def _last_slope(self) -> float:
        """Slope of the logarithms at the end of the table, beyond which they are linear."""
        before, last = self.log_survival[-2:]
        return min((last - before) / float(TABLE[-1] - TABLE[-2]), -EPSILON)


@dataclass(frozen=True)
class ScoreFit:
    """A fit to a set: the distribution of normal scores, and the probability that each image is anomalous.

    `even_probability` is the probability that all images are normal although their scores are as evenly spread as those
    of a half defective set.
    """

    normal_scores: NormalScores
    anomaly_probabilities: Float[np.ndarray, " n"]
    even_probability: float


def fit_scores(scores: Float[np.ndarray, " n"], max_defective: float = 1.0) -> ScoreFit:
    """Fits a mixture of normal and anomalous images to the scores of a set.

    Args:
        scores: at least one; copies of an image should be left out.
        max_defective: largest possible share of anomalous images; values from `score_models.MAX_ANOMALY_SHARE` on
            change nothing.

    Raises:
        NonFiniteScoresError: some scores are infinite or not numbers.
    """
    order = np.argsort(np.asarray(scores, np.float64), kind="stable")
    scores = np.asarray(scores, np.float64)[order]
    if not np.isfinite(scores).all():
        raise NonFiniteScoresError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} image scores are not finite numbers; such "
            "scores have no threshold"
        )
    count = len(scores)
    unseen = 1 / (count + 1) ** 2
    score_range = float(scores[-1] - scores[0])
    if score_range <= 1e-9 * max(abs(scores[0]), 1e-9):
        deviation = max(USUAL_SPREAD * abs(scores[0]), 1e-9)
        table = tuple(scipy.stats.norm.logsf(TABLE).tolist())
        return ScoreFit(NormalScores(float(scores[0]), float(deviation), 1.0, unseen, table), np.zeros(count), 0.0)
    location, unit = _units(scores, LOWER_SHARE)
    groups = np.split((scores - location) / unit, _edges(count))
    values, sizes = np.array([group.mean() for group in groups]), np.array([float(len(group)) for group in groups])
    samples = []
    for model, (own_location, own_unit) in [*_contaminated(scores, max_defective), (NormalOnly(), (location, unit))]:
        start = np.zeros(len(model.SCALES))
        start[:2] = (own_location - location) / unit, np.log(own_unit / unit)
        spread = np.minimum(model.SCALES, np.where(np.arange(len(start)) < 2, 0.5, 1.0))
        likelihood = partial(model.log_likelihood, values=values, sizes=sizes)
        samples.append((model, sample_posterior(likelihood, model.SCALES, start, spread)))
    mean, deviation, normal_share, log_survival, by_value, even_probability = _predict(samples, values)
    anomaly_probabilities = np.empty(count)
    anomaly_probabilities[order] = np.repeat(by_value, sizes.astype(int))
    normal_scores = NormalScores(location + unit * mean, unit * deviation, normal_share, unseen, log_survival)
    return ScoreFit(normal_scores, anomaly_probabilities, even_probability)


def _edges(count: int) -> Int[np.ndarray, " g"]:
    """Indices at which sorted scores are split into groups."""
    if count <= BINS:
        return np.arange(1, count)
    edges = np.round(count * scipy.special.ndtr(np.linspace(-ENDS, ENDS, BINS + 1)))[1:-1].astype(int)
    return np.unique(np.clip(edges, 1, count - 1))


def _contaminated(
    scores: Float[np.ndarray, " n"], max_defective: float
) -> list[tuple[Contaminated | NormalOnly, tuple[float, float]]]:
    """A model for each range of possible shares of anomalies, with location and scale of its first proposal."""
    max_rank = max(share_rank(max_defective), MIN_PRIOR_MASS)
    ranks = [(share_rank(min_share), lowest) for min_share, lowest in STRATA]
    possible = [(rank, lowest) for rank, lowest in ranks if rank < max_rank]
    ends = [*(rank for rank, _ in possible[1:]), max_rank]
    return [
        (Contaminated(rank, end, (1 - NORMAL_ONLY_WEIGHT) / max_rank), _units(scores, lowest))
        for (rank, lowest), end in zip(possible, ends)
    ]


def _units(scores: Float[np.ndarray, " n"], share: float) -> tuple[float, float]:
    """Median and spread of the lowest share of sorted scores."""
    lowest = scores[: max(2, int(np.ceil(share * len(scores))))]
    return float(np.median(lowest)), 1.2 * max(float(lowest.std()), 1e-3 * float(scores[-1] - scores[0]))


def _predict(
    samples: list[tuple[Contaminated | NormalOnly, PosteriorSample]], values: Float[np.ndarray, " v"]
) -> tuple[float, float, float, tuple[float, ...], Float[np.ndarray, " v"], float]:
    """Averages over all models.

    Returns:
        Mean, standard deviation and share of normal scores; their log p-values at TABLE; the probability that each
        value is of an anomalous image; the probability that normal scores are spread evenly.
    """
    evidence = scipy.special.softmax([model.log_weight + sample.log_evidence for model, sample in samples])
    parts = []
    for probability, (model, sample) in zip(evidence, samples):
        counting = probability * sample.weights > MIN_WEIGHT
        parts.append((model, sample.latent[counting], probability * sample.weights[counting]))
    weights = np.concatenate([part for _, _, part in parts])
    weights /= weights.sum()
    moments = zip(*(model.moments(latent) for model, latent, _ in parts))
    mean, deviation, normal_share = (float(weights @ np.concatenate(values)) for values in moments)
    table_scores = mean + deviation * TABLE
    survival = np.concatenate([model.survival(latent, table_scores) for model, latent, _ in parts], axis=1) @ weights
    table = np.minimum.accumulate(np.log(np.maximum(survival, EPSILON)))
    by_value = np.concatenate([model.anomaly_probabilities(latent, values) for model, latent, _ in parts]).T @ weights
    even_probability = float(np.concatenate([model.evenly_spread(latent) for model, latent, _ in parts]) @ weights)
    return mean, deviation, normal_share, tuple(table.tolist()), by_value, even_probability
