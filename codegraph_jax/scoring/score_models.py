"""Models of the image scores of a set, by which the law of its normal images is fitted. [ours]

`Contaminated`: normal scores of a log-gamma law, and a share of anomalous ones above them. How heavy the tail of the
normal law is decides the threshold, and no one law has it right: maxima of light-tailed patch scores tend to Gumbel's
law (Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, section 3.1), and where few patches of an
image can be its greatest they are nearer to Gauss's. The shape q of the log-gamma family (Prentice, Biometrika 1974)
leads from one (q -> 0) to the other (q = 1), and on to an exponential law: the lower half of the scores tells how
skewed they are, and so how heavy a tail to expect.

`Flat`: normal scores alone, of an exponential power law (Subbotin 1923) that may be as flat as a uniform one. A set of
good parts that vary evenly would be torn apart by the other model, into low scores and high ones.

Parameters are functions of latent variables, which are normally distributed a priori with standard deviations SCALES;
the first two, place and logarithmic scale, hardly constrained.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

SHAPE, SHAPE_SPREAD = 0.75, 0.5
"""Prior of the shape q: between Gauss's law and Gumbel's; where scores are skewed, beyond."""
SHAPES = (0.1, 4.0)
"""The shape stays between these: below, nothing changes; above, the law hardly differs from an exponential one."""
MOST, TYPICAL, EVEN = 0.75, -1.3, 1.6
"""Prior of the share of anomalies: MOST * Phi(TYPICAL + EVEN * N(0, 1)), a median of 7 %, a sixth above 45 %."""
ALONE = 0.2
"""Prior weight of the flat law, which has normal images alone: low, since a set of which half is defective is spread
as evenly as one without defects, and a flat law that explains it flags nothing."""
ABOVE, ABOVE_SPREAD = 5.0, 0.6
"""Prior of how far the anomalies' mean lies above that of normal scores, in standard deviations: lognormal."""
WIDE, WIDE_SPREAD = 0.5, 0.4
"""Prior of how much anomalies differ, as a share of how far they lie above: lognormal."""
FLAT, FLAT_SPREAD = 4.0, 0.8
"""Prior of the exponent of the flat law: lognormal, between Gauss's (2) and a uniform one (infinite)."""
EVENLY = 3.0
"""A flat law with a greater exponent is flatter on top than Gauss's, as two equal halves 2.5 standard deviations apart
are."""
VAGUE = 3.0
"""Prior of place and logarithmic scale, in the spread of the lower scores: all but none."""
SMALLEST, IMPOSSIBLE = 1e-300, -1e9
"""Probabilities are clamped at the first before a logarithm; the second stands for that of 0."""


class Moments(NamedTuple):
    """Of the normal scores of each of b parameters, and the share of images that are normal, each [b]."""

    mean: Float[np.ndarray, " b"]
    deviation: Float[np.ndarray, " b"]
    share: Float[np.ndarray, " b"]


@dataclass(frozen=True)
class Contaminated:
    """Normal images, and anomalous ones.

    Attributes:
        least, most: how much of the prior of the share of anomalies lies below the shares that this model is for.
        within: prior weight of this model where all shares are possible; greater where some are ruled out.
    """

    least: float
    most: float
    within: float = 1 - ALONE

    SCALES = np.array([VAGUE, VAGUE, 1.0, 1.0, 1.0, 1.0])

    @property
    def log_weight(self) -> float:
        """Logarithm of the prior weight of these shares."""
        return float(np.log(self.within * (self.most - self.least)))

    def log_likelihood(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"], sizes: Float[np.ndarray, " v"]
    ) -> Float[np.ndarray, " b"]:
        """Of scores that stand for groups of so many."""
        normal, anomalous, valid = self._densities(latent, values)
        return np.where(valid, np.log(normal + anomalous + SMALLEST) @ sizes, IMPOSSIBLE)

    def anomalous(self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"]) -> Float[np.ndarray, "b v"]:
        """Probability that an image of each score is anomalous."""
        normal, anomalous, _ = self._densities(latent, values)
        # an image whose score lies below those of most normal ones is not anomalous, however wide anomalies spread
        return np.where(values > latent[:, :1], anomalous / (normal + anomalous + SMALLEST), 0.0)

    def even(self, latent: Float[np.ndarray, "b d"]) -> Bool[np.ndarray, " b"]:
        """Whether normal scores alone are spread evenly: anomalies explain what is even here."""
        return np.zeros(len(latent), bool)

    def _densities(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"]
    ) -> tuple[Float[np.ndarray, "b v"], Float[np.ndarray, "b v"], Bool[np.ndarray, " b"]]:
        """Density of normal and of anomalous images among all, and whether the shape is within its bounds."""
        moments, shape = self.moments(latent), _shape(latent)
        inside = np.clip(shape, *SHAPES)
        k, offset, stretch = _log_gamma(inside)
        z = (values - moments.mean[:, None]) / moments.deviation[:, None]
        reduced = stretch[:, None] * z - offset[:, None]
        factor = np.log(stretch / moments.deviation) - special.gammaln(k)
        normal = np.exp(factor[:, None] - k[:, None] * reduced - np.exp(np.minimum(-reduced, 700)))
        above = ABOVE * np.exp(ABOVE_SPREAD * latent[:, 4])
        # no anomaly is less uncertain than a normal score
        width = np.sqrt(1 + (WIDE * np.exp(WIDE_SPREAD * latent[:, 5]) * above) ** 2)
        away = (z - above[:, None]) / width[:, None]
        anomalous = np.exp(-0.5 * away**2) / (width * moments.deviation * np.sqrt(2 * np.pi))[:, None]
        share = moments.share[:, None]
        return share * normal, (1 - share) * anomalous, inside == shape

    def moments(self, latent: Float[np.ndarray, "b d"]) -> Moments:
        rank = self.least + (self.most - self.least) * special.ndtr(latent[:, 3])
        anomalous = MOST * special.ndtr(TYPICAL + EVEN * special.ndtri(rank))
        return Moments(latent[:, 0], np.exp(latent[:, 1]), 1 - anomalous)

    def survival(self, latent: Float[np.ndarray, "b d"], places: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t b"]:
        """How often a normal score is higher than each place."""
        moments = self.moments(latent)
        k, offset, stretch = _log_gamma(np.clip(_shape(latent), *SHAPES))
        z = (places[:, None] - moments.mean) / moments.deviation
        return special.gammainc(k, np.exp(np.minimum(offset - stretch * z, 700)))


class Flat:
    """Normal images alone, with scores that may be spread evenly."""

    SCALES = np.array([VAGUE, VAGUE, 1.0])
    log_weight = float(np.log(ALONE))

    def log_likelihood(
        self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"], sizes: Float[np.ndarray, " v"]
    ) -> Float[np.ndarray, " b"]:
        """Of scores that stand for groups of so many."""
        place, scale, exponent = self._parameters(latent)
        factor = np.log(exponent / (2 * scale)) - special.gammaln(1 / exponent)
        with np.errstate(over="ignore"):
            powers = (np.abs(values - place[:, None]) / scale[:, None]) ** exponent[:, None]
            return np.maximum(factor * sizes.sum() - powers @ sizes, IMPOSSIBLE)

    def moments(self, latent: Float[np.ndarray, "b d"]) -> Moments:
        place, scale, exponent = self._parameters(latent)
        variance = np.exp(special.gammaln(3 / exponent) - special.gammaln(1 / exponent))
        return Moments(place, scale * np.sqrt(variance), np.ones(len(latent)))

    def anomalous(self, latent: Float[np.ndarray, "b d"], values: Float[np.ndarray, " v"]) -> Float[np.ndarray, "b v"]:
        """Probability that an image of each score is anomalous: none is."""
        return np.zeros((len(latent), len(values)))

    def even(self, latent: Float[np.ndarray, "b d"]) -> Bool[np.ndarray, " b"]:
        """Whether normal scores alone are spread evenly."""
        return np.asarray(self._parameters(latent)[2] > EVENLY)

    def survival(self, latent: Float[np.ndarray, "b d"], places: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t b"]:
        """How often a normal score is higher than each place."""
        place, scale, exponent = self._parameters(latent)
        z = (places[:, None] - place) / scale
        with np.errstate(over="ignore"):
            tail = 0.5 * special.gammaincc(1 / exponent, np.abs(z) ** exponent)
        return np.where(z > 0, tail, 1 - tail)

    @staticmethod
    def _parameters(latent: Float[np.ndarray, "b d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return latent[:, 0], np.exp(latent[:, 1]), FLAT * np.exp(FLAT_SPREAD * latent[:, 2])


def share_rank(share: float) -> float:
    """How much of the prior of the share of anomalies lies below a share."""
    if share >= MOST:
        return 1.0
    return float(special.ndtr((special.ndtri(max(share, SMALLEST) / MOST) - TYPICAL) / EVEN)) if share else 0.0


def _shape(latent: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
    return SHAPE + SHAPE_SPREAD * latent[:, 2]


def _log_gamma(shape: Float[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k, psi and sigma for which z = (psi - ln G) / sigma, G of a gamma law with shape k, has mean 0 and variance 1."""
    k = shape**-2.0
    return k, special.psi(k), np.sqrt(special.polygamma(1, k))
