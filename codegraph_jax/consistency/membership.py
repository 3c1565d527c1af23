"""Members that the links have missed: images that show the defect of a community that has been proven. [ours]

A burnout of few images in a wide window is hard to see, so that a small group is often found in part. Once a community
stands, the question is easier: is there a patch of the image that is far from the images outside, and nearer to the
members by a fifth? And is it as near as a further member's would be?
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from codegraph_jax.config import ConsistencyConfig
from codegraph_jax.consistency.filtering import dependences
from codegraph_jax.similarity.judged import usual

NEARER = 0.8
"""Most affinity of a member that joins. Measured over the sets of BENCHMARKS.md: images that show the defect 0.54 to
0.79; of all other images, one that shows a similar one-off defect 0.67 (its community's own members: 0.52 to 0.57), one
0.78, and none else below 0.85."""

MEMBERS, OUTSIDE = 0.75, 4
"""A patch is near to the members where three quarters of them are near; the fourth nearest image outside stands for
all, so that up to three images whose membership is unknown do not hide it."""


def affinity(
    distances: Float[np.ndarray, "m p"], inside: Int[np.ndarray, " a"], outside: Int[np.ndarray, " b"], standout: float
) -> float:
    """How much nearer the members are than the images outside, at the patch of an image where they are nearest.

    Args:
        distances: of one image, mean over layers and degrees; infinite where a reference must not serve.
        inside, outside: columns of the references that are members, and that belong to no community.
        standout: what the distance to the images outside must exceed for a patch to count.

    Returns:
        The least ratio of the two distances; infinite where no patch counts.
    """
    near, far = (distances[columns[np.isfinite(distances[columns]).any(axis=1)]] for columns in (inside, outside))
    if not len(near) or len(far) < OUTSIDE:
        return np.inf
    elsewhere = np.partition(far, OUTSIDE - 1, axis=0)[OUTSIDE - 1]
    # what is infinitely far, because it meets nobody within the radius, is not near
    ratios = (np.quantile(near, MEMBERS, axis=0) / np.maximum(elsewhere, 1e-12))[elsewhere > standout]
    return float(min(usual(ratios), default=np.inf))


def with_missed_members(
    communities: Sequence[Sequence[int]],
    distances: Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    k: int,
    config: ConsistencyConfig,
) -> list[tuple[int, ...]]:
    """Adds the images that show the defect of a community; of several, the one that is nearest.

    An image joins where its affinity is below `NEARER` and within what the members' own affinities predict for a
    further one: one-sided, so that a true member is missed with a chance of `significance`.

    Args:
        communities: disjoint, image indices of each.
        distances: mean over layers and degrees.
        references: image of each column.
        k: neighbours that a score averages.
        config: the quantiles and the significance.
    """
    grown = [list(members) for members in communities]
    tests = dependences(distances, references, communities, k, config)
    taken = np.isin(references, [i for members in communities for i in members])
    outside = np.flatnonzero(~taken)
    others = np.setdiff1d(np.arange(len(distances)), [i for members in communities for i in members])
    found = np.full((len(tests), len(others)), np.inf)
    for c, (members, test) in enumerate(zip(communities, tests)):
        inside = np.flatnonzero(np.isin(references, members))
        own, values = (
            _affinities(images, distances, references, inside, outside, test.standout)
            for images in (members, others.tolist())
        )
        limit = min(NEARER, _further(own[np.isfinite(own)], config.significance))
        found[c] = np.where(values < limit, values, np.inf)
    for place, i in enumerate(others):
        if len(tests) and np.isfinite(found[:, place]).any():
            grown[int(found[:, place].argmin())].append(int(i))
    return [tuple(members) for members in grown]


def _affinities(
    images: Iterable[int],
    distances: Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    inside: Int[np.ndarray, " a"],
    outside: Int[np.ndarray, " b"],
    standout: float,
) -> Float[np.ndarray, " i"]:
    """Of each image, to the members other than itself."""
    others = ((i, inside[references[inside] != i]) for i in images)
    return np.array([affinity(distances[i], columns, outside, standout) for i, columns in others])


def _further(values: Float[np.ndarray, " v"], chance: float) -> float:
    """What one more value of a normal distribution exceeds with this chance (Student's prediction interval)."""
    if len(values) < 2:
        return -np.inf
    spread = values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    return float(values.mean() + stats.t.isf(chance, len(values) - 1) * spread)
