"""A threshold without labels: which images of a set are flagged, and how often a normal one is by mistake.

An image score is the greatest of many patch scores. Extreme-value theory gives the law of such maxima: for light tails
it is Gumbel's, G(x) = exp(-exp(-(x - mu) / beta)) (Coles, An Introduction to Statistical Modeling of Extreme Values,
2001, section 3.1). Nobody says which images of the set are normal, and more than half of them may not be. So the scores
are modelled as a mixture,

    f(x) = pi * g(x; mu, beta) + (1 - pi) * h(x),

Gumbel's density g for the normal images and a broad lognormal density h for the anomalous ones, fitted by expectation
maximisation. The second part is kept only where the evidence for it is very strong (BIC; Kass and Raftery, JASA 1995)
against a single law, which may also have a shorter tail than Gumbel's (Weibull type): a set without anomalies is not
torn apart. Without a second part, Gumbel's law is fitted to the lower seven tenths of the scores, the others counting
as censored: a few anomalies cannot widen it. The p-value of an image is 1 - G(score), and the threshold is the score
whose p-value is the false-alarm rate that was asked for.

Its limits: a variation of normal parts that is rare and distinct gets the same verdict as an anomaly, and where the
scores of the anomalous images do not stand out from those of the normal ones, none is flagged.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, stats

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.core.files import finite_or_none

FEWEST = 12
"""Scores that a mixture needs; fewer get a law through their quartiles."""
STARTS = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9)
"""Shares of normal images at which the expectation maximisation starts."""
STEPS = 300
REGION_P_VALUE = 0.1
"""A flagged region reaches down to what one normal image in ten reaches anywhere. Measured (ViT-S/14, 448 px):
0.05 to 0.2 give pixel F1 within 0.02 of the best threshold that labels can find, for MVTec's bottle and for recurring
defects."""
EVIDENCE = 10.0
"""Difference of BIC from which the evidence for anomalies counts as very strong."""
UNCENSORED = 0.7
"""Share of the scores, the lowest, that a law without anomalies is fitted to. Measured at a rate of 1 %: of small sets
(14 to 40 images) of normal bottles, screws and magnetic tiles, 0.5, 0.6, 0.7, 0.8 and 0.9 flag 2.3, 1.7, 1.3, 0.5 and
0.3 %; of the anomalies in sets of 13 to 20 bottles or drawn parts, a fifth to a third of them anomalous, they find 79,
74, 73, 60 and 57 %. Large sets hardly depend on it."""
FEWEST_NORMAL = 6
"""Images that the normal part must explain: a law through fewer fits anything."""
GUMBEL_START = (-0.45, np.log(0.78))
"""Location and log scale of Gumbel's law with mean 0 and variance 1."""
WORST = 1e9
"""Cost of parameters that cannot be; finite, so that differences of costs are."""
SHORTEST_TAIL = -0.4
"""Shape of the single law, from here (a bounded tail) to 0 (Gumbel): a heavier one would swallow the anomalies."""


@dataclass(frozen=True)
class NormalScores:
    """The law of the raw scores of normal images: Gumbel's.

    Attributes:
        location: its mode mu.
        scale: its spread beta.
        share: share of the images that it explains.
    """

    location: float
    scale: float
    share: float

    def p_values(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How often a normal image scores so high."""
        return stats.gumbel_r.sf(scores, self.location, self.scale)

    def density(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Density of the normal part of the mixture: its integral is `share`."""
        return self.share * stats.gumbel_r.pdf(scores, self.location, self.scale)

    def quantile(self, p_value: float) -> float:
        """The score that has this p-value."""
        return float(stats.gumbel_r.isf(p_value, self.location, self.scale))


@dataclass(frozen=True)
class Calibration:
    """Which images and patches count as anomalous.

    Attributes:
        threshold: raw image scores above it are flagged; infinite where nothing is.
        patch_threshold: a flagged region starts where the map exceeds `threshold` and reaches down to this score.
        p_values: how often a normal image scores so high [n].
        flagged: which images are above the threshold [n].
        rule: how the threshold came about: `mixture`, `single law`, `quartiles`, `given` or `share`.
        expected_rate: share of normal images that the law expects above the threshold.
        law: of the raw scores of normal images.
    """

    threshold: float
    patch_threshold: float
    p_values: Float[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    rule: str
    expected_rate: float
    law: NormalScores

    def of(self, scores_raw: Float[np.ndarray, " k"]) -> "Calibration":
        """The same thresholds held against other scores, which change nothing of them."""
        p_values = self.law.p_values(np.asarray(scores_raw, np.float64))
        return replace(self, p_values=p_values, flagged=scores_raw >= self.threshold)

    def as_json(self) -> dict[str, Any]:
        """All but the arrays, for a file; `from_json` reads it."""
        return {
            # JSON has no infinity, which is the threshold where nothing can be flagged
            "threshold": finite_or_none(self.threshold),
            "patch_threshold": finite_or_none(self.patch_threshold),
            "rule": self.rule,
            "expected_rate": self.expected_rate,
            "law": asdict(self.law),
        }

    @classmethod
    def from_json(
        cls, values: Mapping[str, Any], p_values: Float[np.ndarray, " n"], flagged: Bool[np.ndarray, " n"]
    ) -> "Calibration":
        """What `as_json` gave, with its arrays; values of the wrong kind raise what Python raises for them."""
        threshold, patch_threshold = (
            np.inf if values[name] is None else float(values[name]) for name in ("threshold", "patch_threshold")
        )
        law = NormalScores(**{name: float(value) for name, value in values["law"].items()})
        rule, rate = str(values["rule"]), float(values["expected_rate"])
        return cls(threshold, patch_threshold, p_values, flagged, rule, rate, law)

    def normal_density(self, scores: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Density of normal images among all of the set."""
        return self.law.density(scores)


def calibrate(scores_raw: Float[np.ndarray, " n"], config: ThresholdConfig) -> Calibration:
    """Chooses the thresholds of a set from its own scores.

    Args:
        scores_raw: greatest value of each anomaly map, before re-scoring.
        config: the false-alarm rate, or what overrides it.
    """
    scores = np.asarray(scores_raw, np.float64)
    law, rule = fit_normal_scores(scores)
    if config.value > 0:
        threshold, rule = config.value, "given"
    elif config.share > 0:
        count = int(round(config.share * len(scores)))
        threshold, rule = (float(np.sort(scores)[-count]) if count else np.inf), "share"
    else:
        threshold = law.quantile(config.false_alarm_rate)
    return Calibration(
        threshold=float(threshold),
        patch_threshold=float(min(law.quantile(REGION_P_VALUE), threshold)),
        p_values=law.p_values(scores),
        flagged=scores >= threshold,
        rule=rule,
        expected_rate=float(law.p_values(np.array([threshold]))[0]),
        law=law,
    )


def fit_normal_scores(scores: Float[np.ndarray, " n"]) -> tuple[NormalScores, str]:
    """The law of the normal images of a contaminated set, and the rule that gave it (`Calibration.rule`)."""
    spread = float(scores.max() - scores.min())
    if spread <= 1e-9:
        return NormalScores(float(scores[0]), 1e-9, 1.0), "quartiles"
    if len(scores) < FEWEST:
        return _quartile_law(scores), "quartiles"
    mixtures = [found for start in STARTS if (found := _mixture(scores, start))]
    if mixtures:
        mixture, bic = min(mixtures, key=lambda found: found[1])
        if bic < _single_law_bic(scores) - EVIDENCE:
            return mixture, "mixture"
    return _censored_law(scores), "single law"


def _quartile_law(scores: Float[np.ndarray, " n"]) -> NormalScores:
    """Gumbel's law through the median and the lower quartile, which a minority of anomalies hardly moves.

    Q(p) = mu - beta ln(-ln p), so that Q(1/2) - Q(1/4) = beta ln 2.
    """
    quarter, median = np.quantile(scores, (0.25, 0.5))
    scale = max((median - quarter) / np.log(2), 1e-9)
    return NormalScores(float(median + scale * np.log(np.log(2))), float(scale), 1.0)


def _single_law_bic(scores: Float[np.ndarray, " n"]) -> float:
    """BIC of the best law without anomalies: Gumbel's, or an extreme-value law with a bounded tail."""
    n, spread = len(scores), scores.std()
    z = (scores - scores.mean()) / spread

    def cost(parameters: np.ndarray) -> float:
        location, log_scale, shape = (*parameters, 0.0)[:3]
        if not SHORTEST_TAIL <= shape <= 0:
            return WORST
        y = _reduced(z, location, log_scale, shape)
        if y is None:
            return WORST
        return min(float((log_scale + (1 + shape) * y + np.exp(-y)).sum()), WORST)

    gumbel = optimize.minimize(cost, GUMBEL_START, method="Nelder-Mead")
    bounded = optimize.minimize(cost, (*GUMBEL_START, -0.15), method="Nelder-Mead")
    # back from standardised scores, so that it can be compared with the mixture's
    costs = (2 * gumbel.fun + 2 * np.log(n), 2 * bounded.fun + 3 * np.log(n))
    return float(min(costs) + 2 * n * np.log(spread))


def _reduced(
    z: Float[np.ndarray, " n"], location: float, log_scale: float, shape: float
) -> Float[np.ndarray, " n"] | None:
    """y with P(Z <= z) = exp(-exp(-y)) under an extreme-value law; None where a z lies beyond its tail."""
    y = (z - location) * np.exp(-log_scale)
    if abs(shape) > 1e-6:
        inside = 1 + shape * y
        if inside.min() <= 0:
            return None
        y = np.log(inside) / shape
    return np.maximum(y, -700.0)


def _censored_law(scores: Float[np.ndarray, " n"]) -> NormalScores:
    """Gumbel's law by maximum likelihood, of the highest scores nothing used but their number."""
    ordered = np.sort(scores)
    count = int(np.ceil(UNCENSORED * len(ordered)))
    centre, spread = ordered.mean(), ordered.std()
    z = (ordered[:count] - centre) / spread

    def cost(parameters: np.ndarray) -> float:
        location, log_scale = parameters
        y = _reduced(z, location, log_scale, 0.0)
        assert y is not None
        beyond = np.log(-np.expm1(-np.exp(-y[-1])))
        return min(float((log_scale + y + np.exp(-y)).sum() - (len(ordered) - count) * beyond), WORST)

    location, log_scale = optimize.minimize(cost, GUMBEL_START, method="Nelder-Mead").x
    return NormalScores(float(centre + spread * location), float(spread * np.exp(log_scale)), 1.0)


def _mixture(scores: Float[np.ndarray, " n"], start: float) -> tuple[NormalScores, float] | None:
    """Expectation maximisation from a split at the quantile `start`: the law of the lower part and the BIC.

    None where the parts do not come out as a normal one and a higher one.
    """
    n, ordered = len(scores), np.sort(scores)
    least, smallest = float(ordered[0]), 1e-3 * float(scores.std())
    split = float(ordered[min(max(FEWEST_NORMAL, int(start * n)), n - 2)])
    normal = (scores < split).astype(float)
    if normal.sum() < FEWEST_NORMAL:  # ties at the lowest score
        return None
    scale = max(float(scores[scores < split].std()), smallest) * np.sqrt(6) / np.pi
    logs, share, likelihood = np.log(np.maximum(scores, 1e-9)), start, -np.inf
    for _ in range(STEPS):
        weight = normal.sum()
        if not FEWEST_NORMAL <= weight <= n - 1:
            return None
        share = weight / n
        mean = normal @ scores / weight
        for _ in range(5):  # the likelihood equation of the scale, as a damped fixed point
            tilted = normal * np.exp(-(scores - least) / scale)
            scale = max(0.5 * (scale + mean - tilted @ scores / tilted.sum()), smallest)
        location = least - scale * np.log(normal @ np.exp(-(scores - least) / scale) / weight)
        rest = n - weight
        log_mean = (1 - normal) @ logs / rest
        log_std = max(np.sqrt((1 - normal) @ (logs - log_mean) ** 2 / rest), 0.03)
        z = (scores - location) / scale
        first = np.log(share / scale) - z - np.exp(-z)
        second = np.log((1 - share) / (log_std * np.sqrt(2 * np.pi))) - logs - 0.5 * ((logs - log_mean) / log_std) ** 2
        total = np.logaddexp(first, second)
        normal = np.exp(first - total)
        previous, likelihood = likelihood, float(total.sum())
        if likelihood - previous < 1e-7 * n:
            break
    if np.exp(log_mean) < location + 2 * scale:
        return None
    return NormalScores(float(location), float(scale), float(share)), -2 * likelihood + 5 * np.log(n)
