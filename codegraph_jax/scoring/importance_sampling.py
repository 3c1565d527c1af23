"""Posterior of the parameters of a model by adaptive importance sampling.

Cappe et al., Population Monte Carlo, Journal of Computational and Graphical Statistics 2004; the likelihood is tempered
as in annealed importance sampling (Neal, Statistics and Computing 2001). The points are a fixed Sobol sequence, so the
result is a smooth, deterministic function of the data.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

POINTS, DEGREES_OF_FREEDOM, PROPOSAL_WIDENING = 1024, 5.0, 1.15
"""Number of points; degrees of freedom of the proposal, a t distribution; factor that widens it."""
MIN_EFFECTIVE_SHARE, FULL_ROUNDS, MAX_ROUNDS = 0.12, 2, 25
"""Minimum effective sample size as a share of the points; rounds with the full likelihood; most rounds."""
RIDGE = 1e-8
"""Added to the variances of the proposal to keep them positive."""


class PosteriorSample(NamedTuple):
    """Parameters, their posterior weights, which sum to 1, and the logarithm of the marginal likelihood."""

    latent: Float[np.ndarray, "b d"]
    weights: Float[np.ndarray, " b"]
    log_evidence: float


def sample_posterior(
    log_likelihood: Callable[[Float[np.ndarray, "b d"]], Float[np.ndarray, " b"]],
    scales: Float[np.ndarray, " d"],
    start: Float[np.ndarray, " d"],
    spread: Float[np.ndarray, " d"],
) -> PosteriorSample:
    """The posterior of parameters whose prior is normal with mean 0 and deviations `scales`.

    In each round the likelihood is raised to the greatest power, at most 1, that keeps the effective sample size, and
    the proposal is fitted to the weighted points. If the power never reaches 1, the result is wider than the posterior.
    `start` and `spread` are mean and deviations of the first proposal.
    """
    d, freedom = len(scales), DEGREES_OF_FREEDOM
    points = _points(d)
    radius = (points**2).sum(axis=1)
    constant = (
        scipy.special.gammaln((freedom + d) / 2) - scipy.special.gammaln(freedom / 2) - d / 2 * np.log(freedom * np.pi)
    )
    mean, factor, full_rounds = start, np.diag(spread), 0
    for _ in range(MAX_ROUNDS):
        latent = mean + points @ factor.T
        likelihood = log_likelihood(latent)
        prior = scipy.stats.norm.logpdf(latent, 0, scales).sum(axis=1)
        proposal = constant - (freedom + d) / 2 * np.log1p(radius / freedom) - np.log(np.diag(factor)).sum()
        power = _power(likelihood, prior - proposal)
        weights = scipy.special.softmax(power * likelihood + prior - proposal)
        full_rounds += power == 1.0
        if full_rounds > FULL_ROUNDS:
            break
        mean = weights @ latent
        away = latent - mean
        factor = PROPOSAL_WIDENING * np.linalg.cholesky((away * weights[:, None]).T @ away + RIDGE * np.eye(d))
    log_evidence = float(scipy.special.logsumexp(likelihood + prior - proposal) - np.log(POINTS))
    return PosteriorSample(latent, weights, log_evidence)


@cache
def _points(d: int) -> Float[np.ndarray, "b d"]:
    """Low-discrepancy points of a t distribution with unit scale."""
    uniform = scipy.stats.qmc.Sobol(d + 1, scramble=False).random(POINTS) + 0.5 / POINTS
    radius = np.sqrt(scipy.special.gammaincinv(DEGREES_OF_FREEDOM / 2, uniform[:, d]) / (DEGREES_OF_FREEDOM / 2))
    return scipy.special.ndtri(uniform[:, :d]) / radius[:, None]


def _power(likelihood: Float[np.ndarray, " b"], rest: Float[np.ndarray, " b"]) -> float:
    """Greatest power of the likelihood, at most 1, that keeps the effective sample size."""

    def enough(power: float) -> bool:
        return 1 / (scipy.special.softmax(power * likelihood + rest) ** 2).sum() >= MIN_EFFECTIVE_SHARE * len(rest)

    low, high = 0.0, 1.0
    if enough(high):
        return high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low
