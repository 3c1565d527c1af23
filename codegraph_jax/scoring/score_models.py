"""Models of the image scores of a set [ours].

`Contaminated`: scores of normal images with a log-gamma distribution, and a share of anomalous scores above them. The
threshold depends on the tail of that distribution. Maxima of light-tailed patch scores tend to a Gumbel distribution
(Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, section 3.1); if only a few patches of an image
can be its maximum, the scores are closer to a Gaussian distribution. The shape q of the log-gamma family (Prentice,
Biometrika 1974) covers both, Gaussian (q -> 0) and Gumbel (q = 1), up to an exponential distribution. The skewness of
the lower half of the scores determines q and so the tail.

`NormalOnly`: normal images only, with an exponential power distribution (Subbotin 1923) that may be nearly uniform.
`Contaminated` would split a set of evenly varying good parts into low and high scores.

Parameters are functions of latent variables with a Gaussian prior of mean 0 and deviations SCALES. The first two
latent variables, location and log scale, have a vague prior.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

SHAPE, SHAPE_SPREAD = 0.75, 0.5
"""Prior mean and standard deviation of the shape q: between a Gaussian and a Gumbel distribution."""
SHAPES = (0.1, 4.0)
"""Range of the shape; smaller values change nothing, larger ones hardly differ from an exponential distribution."""
MAX_ANOMALY_SHARE, SHARE_LOCATION, SHARE_SPREAD = 0.75, -1.3, 1.6
"""Prior of the share of anomalies: MAX_ANOMALY_SHARE * Phi(SHARE_LOCATION + SHARE_SPREAD * N(0, 1)), a median of 7%, a
sixth above 45%."""
NORMAL_ONLY_WEIGHT = 0.2
"""Prior weight of `NormalOnly`: low, since the scores of a half defective set can be spread evenly too, and this model
flags nothing."""
SEPARATION, SEPARATION_SPREAD = 5.0, 0.6
"""Lognormal prior of the distance of the anomalies' mean from that of normal scores, in standard deviations."""
ANOMALY_DEVIATION, ANOMALY_DEVIATION_SPREAD = 0.5, 0.4
"""Lognormal prior of the standard deviation of anomalies, as a share of that distance."""
EXPONENT, EXPONENT_SPREAD = 4.0, 0.8
"""Lognormal prior of the exponent of `NormalOnly`; 2 is a Gaussian distribution, infinity a uniform one."""
EVEN_EXPONENT = 3.0
"""Exponent of `NormalOnly` above which scores count as evenly spread: as flat as two equal halves 2.5 standard
deviations apart."""
PRIOR_DEVIATION = 3.0
"""Prior standard deviation of location and log scale, in units of the lower scores."""
EPSILON, IMPOSSIBLE = 1e-300, -1e9
"""Lower bound of probabilities before taking the logarithm, and the value for the logarithm of 0."""


class Moments(NamedTuple):
    """Moments of normal scores and share of normal images, for b parameter vectors."""

    mean: Float[np.ndarray, " b"]
    deviation: Float[np.ndarray, " b"]
    normal_share: Float[np.ndarray, " b"]


@dataclass(frozen=True)
class Contaminated:
    """Normal and anomalous images.

    The share of anomalies lies between two quantiles of its prior, `min_rank` and `max_rank` (`share_rank`);
    `weight_per_rank` is the prior weight of the model per unit of rank.
    """

    min_rank: float
    max_rank: float
    weight_per_rank: float

    SCALES = np.array([PRIOR_DEVIATION, PRIOR_DEVIATION, 1.0, 1.0, 1.0, 1.0])

    @property
    def log_weight(self) -> float:
        """Log prior weight of the model."""
        return float(np.log(self.weight_per_rank * (self.max_rank - self.min_rank)))

    def log_likelihood(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"], sizes: Float[np.ndarray, " v"]
    ) -> Float[np.ndarray, " b"]:
        """Log likelihood of groups of scores, given by their means and sizes."""
        normal, anomalous, valid = self._densities(latent, values)
        return np.where(valid, np.log(normal + anomalous + EPSILON) @ sizes, IMPOSSIBLE)

    def anomaly_probabilities(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"]
    ) -> Float[np.ndarray, "b v"]:
        """Probability that an image with each score is anomalous."""
        normal, anomalous, _ = self._densities(latent, values)
        # a wide distribution of anomalies also covers scores below the normal mean; those are normal
        return np.where(values > latent[:, :1], anomalous / (normal + anomalous + EPSILON), 0.0)

    def evenly_spread(self, latent: Float[np.ndarray, "b d"]) -> Bool[np.ndarray, " b"]:
        """Whether normal scores are spread evenly: never in this model."""
        return np.zeros(len(latent), bool)

    def _densities(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"]
    ) -> tuple[Float[np.ndarray, "b v"], Float[np.ndarray, "b v"], Bool[np.ndarray, " b"]]:
        """Weighted densities of normal and of anomalous images, and whether the shape is within its bounds."""
        moments, shape = self.moments(latent), _shape(latent)
        inside = np.clip(shape, *SHAPES)
        k, offset, stretch = _log_gamma(inside)
        z = (values - moments.mean[:, None]) / moments.deviation[:, None]
        reduced = stretch[:, None] * z - offset[:, None]
        factor = np.log(stretch / moments.deviation) - scipy.special.gammaln(k)
        normal = np.exp(factor[:, None] - k[:, None] * reduced - np.exp(np.minimum(-reduced, 700)))
        above = SEPARATION * np.exp(SEPARATION_SPREAD * latent[:, 4])
        # anomalies vary at least as much as normal scores
        width = np.sqrt(1 + (ANOMALY_DEVIATION * np.exp(ANOMALY_DEVIATION_SPREAD * latent[:, 5]) * above) ** 2)
        away = (z - above[:, None]) / width[:, None]
        anomalous = np.exp(-0.5 * away**2) / (width * moments.deviation * np.sqrt(2 * np.pi))[:, None]
        normal_share = moments.normal_share[:, None]
        return normal_share * normal, (1 - normal_share) * anomalous, inside == shape

    def moments(self, latent: Float[np.ndarray, "b d"]) -> Moments:
        """Moments of the normal scores."""
        rank = self.min_rank + (self.max_rank - self.min_rank) * scipy.special.ndtr(latent[:, 3])
        anomalous = MAX_ANOMALY_SHARE * scipy.special.ndtr(SHARE_LOCATION + SHARE_SPREAD * scipy.special.ndtri(rank))
        return Moments(latent[:, 0], np.exp(latent[:, 1]), 1 - anomalous)

    def survival(self, latent: Float[np.ndarray, "b d"], scores: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t b"]:
        """Probability that a normal score exceeds each of these scores."""
        moments = self.moments(latent)
        k, offset, stretch = _log_gamma(np.clip(_shape(latent), *SHAPES))
        z = (scores[:, None] - moments.mean) / moments.deviation
        return scipy.special.gammainc(k, np.exp(np.minimum(offset - stretch * z, 700)))


class NormalOnly:
    """Normal images only, with scores that may be spread evenly."""

    SCALES = np.array([PRIOR_DEVIATION, PRIOR_DEVIATION, 1.0])
    log_weight = float(np.log(NORMAL_ONLY_WEIGHT))

    def log_likelihood(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"], sizes: Float[np.ndarray, " v"]
    ) -> Float[np.ndarray, " b"]:
        """Log likelihood of groups of scores, given by their means and sizes."""
        location, scale, exponent = self._parameters(latent)
        factor = np.log(exponent / (2 * scale)) - scipy.special.gammaln(1 / exponent)
        with np.errstate(over="ignore"):
            powers = (np.abs(values - location[:, None]) / scale[:, None]) ** exponent[:, None]
            return np.maximum(factor * sizes.sum() - powers @ sizes, IMPOSSIBLE)

    def moments(self, latent: Float[np.ndarray, "b d"]) -> Moments:
        """Moments of the normal scores."""
        location, scale, exponent = self._parameters(latent)
        variance = np.exp(scipy.special.gammaln(3 / exponent) - scipy.special.gammaln(1 / exponent))
        return Moments(location, scale * np.sqrt(variance), np.ones(len(latent)))

    def anomaly_probabilities(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"]
    ) -> Float[np.ndarray, "b v"]:
        """Probability that an image with each score is anomalous: 0."""
        return np.zeros((len(latent), len(values)))

    def evenly_spread(self, latent: Float[np.ndarray, "b d"]) -> Bool[np.ndarray, " b"]:
        """Whether normal scores are spread evenly."""
        return np.asarray(self._parameters(latent)[2] > EVEN_EXPONENT)

    def survival(self, latent: Float[np.ndarray, "b d"], scores: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t b"]:
        """Probability that a normal score exceeds each of these scores."""
        location, scale, exponent = self._parameters(latent)
        z = (scores[:, None] - location) / scale
        with np.errstate(over="ignore"):
            tail = 0.5 * scipy.special.gammaincc(1 / exponent, np.abs(z) ** exponent)
        return np.where(z > 0, tail, 1 - tail)

    @staticmethod
    def _parameters(latent: Float[np.ndarray, "b d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return latent[:, 0], np.exp(latent[:, 1]), EXPONENT * np.exp(EXPONENT_SPREAD * latent[:, 2])


def share_rank(share: float) -> float:
    """Prior probability that the share of anomalies is below `share`."""
    if share >= MAX_ANOMALY_SHARE or not share:
        return float(share > 0)
    normal = scipy.special.ndtri(max(share, EPSILON) / MAX_ANOMALY_SHARE)
    return float(scipy.special.ndtr((normal - SHARE_LOCATION) / SHARE_SPREAD))


def _shape(latent: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
    return SHAPE + SHAPE_SPREAD * latent[:, 2]


def _log_gamma(shape: Float[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k, psi and sigma for which (psi - ln G) / sigma, with G of a gamma distribution of shape k, is standardised."""
    k = shape**-2.0
    return k, scipy.special.psi(k), np.sqrt(scipy.special.polygamma(1, k))
