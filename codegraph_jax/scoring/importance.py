"""Averages over the parameters of a model, weighted by how well they explain data: adaptive importance sampling.

Cappe et al., Population Monte Carlo, Journal of Computational and Graphical Statistics 2004; the steps in which the
likelihood comes to count are those of annealed importance sampling (Neal, Statistics and Computing 2001). The points
are fixed (Sobol's sequence): the result depends on nothing but the data, and smoothly.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special, stats

POINTS, FREEDOM, WIDER = 1024, 5.0, 1.15
"""Points, degrees of freedom of the t distribution that proposes them, and what it is widened by."""
EFFECTIVE, ROUNDS, LONGEST = 0.12, 2, 25
"""Share of the points that must count; rounds after all of the likelihood counts, and at most."""
RIDGE = 1e-8
"""Added to the variances of the proposal, so that none is 0."""


class Sample(NamedTuple):
    """Parameters with weights.

    Attributes:
        latent: the points [b, d].
        weights: of the posterior, summing to 1 [b].
        log_evidence: logarithm of the mean of the likelihood over the prior.
    """

    latent: Float[np.ndarray, "b d"]
    weights: Float[np.ndarray, " b"]
    log_evidence: float


def sample_posterior(
    log_likelihood: Callable[[Float[np.ndarray, "b d"]], Float[np.ndarray, " b"]],
    scales: Float[np.ndarray, " d"],
    start: Float[np.ndarray, " d"],
    spread: Float[np.ndarray, " d"],
) -> Sample:
    """The posterior of parameters that are normally distributed around 0 before anything is seen.

    The proposal moves towards the posterior: round by round, as much of the likelihood counts as leaves enough points
    with weight. Where it does not come to count as a whole, the weights are those of what does: they say less.

    Args:
        log_likelihood: of the data; finite.
        scales: standard deviations of the prior.
        start: where the search begins.
        spread: how far around it.
    """
    d = len(scales)
    points = _points(d)
    radius = (points**2).sum(axis=1)
    constant = special.gammaln((FREEDOM + d) / 2) - special.gammaln(FREEDOM / 2) - d / 2 * np.log(FREEDOM * np.pi)
    mean, factor, whole = start, np.diag(spread), 0
    for _ in range(LONGEST):
        latent = mean + points @ factor.T
        likelihood = log_likelihood(latent)
        prior = stats.norm.logpdf(latent, 0, scales).sum(axis=1)
        proposal = constant - (FREEDOM + d) / 2 * np.log1p(radius / FREEDOM) - np.log(np.diag(factor)).sum()
        power = _power(likelihood, prior - proposal)
        weights = special.softmax(power * likelihood + prior - proposal)
        whole += power == 1.0
        if whole > ROUNDS:
            break
        mean = weights @ latent
        away = latent - mean
        factor = WIDER * np.linalg.cholesky((away * weights[:, None]).T @ away + RIDGE * np.eye(d))
    return Sample(latent, weights, float(special.logsumexp(likelihood + prior - proposal) - np.log(POINTS)))


@cache
def _points(d: int) -> Float[np.ndarray, "b d"]:
    """Points of a t distribution with unit scale, evenly spread."""
    uniform = stats.qmc.Sobol(d + 1, scramble=False).random(POINTS) + 0.5 / POINTS
    radius = np.sqrt(special.gammaincinv(FREEDOM / 2, uniform[:, d]) / (FREEDOM / 2))
    return special.ndtri(uniform[:, :d]) / radius[:, None]


def _power(likelihood: Float[np.ndarray, " b"], rest: Float[np.ndarray, " b"]) -> float:
    """Greatest power of the likelihood, at most 1, with which enough points count."""

    def enough(power: float) -> bool:
        return 1 / (special.softmax(power * likelihood + rest) ** 2).sum() >= EFFECTIVE * len(rest)

    low, high = 0.0, 1.0
    if enough(high):
        return high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low
