"""Members that the links have missed: images that show the defect of a community that has been proven [ours].

A burnout of few images in a wide window is hard to see, so that a small group is often found in part. Once a community
stands, the question is easier: is there a patch of the image that is far from the images outside, and nearer to the
members by a fifth? And is it as near as a further member's would be?
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from codegraph_jax.consistency.constants import CONSTANTS, MethodConstants
from codegraph_jax.consistency.filtering import dependences
from codegraph_jax.scoring.distances import Distances, as_distances

NEARER = 0.8
"""Most affinity of a member that joins. Measured (benchmarks/log/recurring.md): images that show the defect 0.54 to
0.79; of all other images, one that shows a similar one-off defect 0.67 (its community's own members: 0.52 to 0.57), one
0.78, and none else below 0.85."""

MEMBERS, OUTSIDE = 0.75, 4
"""A patch is near to the members where three quarters of them are near; the fourth nearest image outside stands for
all, so that up to three images whose membership is unknown do not hide it."""


def affinities(
    distances: Distances | Float[np.ndarray, "n m p"],
    images: Sequence[int],
    inside: Int[np.ndarray, " a"],
    outside: Int[np.ndarray, " b"],
    standout: float,
) -> Float[np.ndarray, " i"]:
    """How much nearer the members are than the images outside, at the patch of each image where they are nearest.

    Args:
        distances: mean over layers and degrees; infinite where a reference must not serve, as no image serves itself.
        images: of which it is asked.
        inside, outside: columns of the references that are members, and that belong to no community.
        standout: what the distance to the images outside must exceed for a patch to count.

    Returns:
        The least ratio of the two distances; infinite where no patch counts.
    """
    held = as_distances(distances)
    near, elsewhere = held.quantile(MEMBERS, inside, images), held.kth(OUTSIDE, outside, images)
    # what is infinitely far, because it meets nobody within the radius, is not near, and nothing is near beside it
    counts = np.isfinite(near) & np.isfinite(elsewhere) & (elsewhere > standout)
    ratios = np.full(near.shape, np.inf)
    np.divide(near, np.maximum(elsewhere, 1e-12), out=ratios, where=counts)
    return np.where(ratios >= 0, ratios, np.inf).min(axis=1, initial=np.inf)


def with_missed_members(
    communities: Sequence[Sequence[int]],
    distances: Distances | Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    k: int,
    constants: MethodConstants = CONSTANTS,
) -> list[tuple[int, ...]]:
    """Adds the images that show the defect of a community; of several, the one that is nearest.

    An image joins where its affinity is below `NEARER` and within what the members' own affinities predict for a
    further one: one-sided, so that a true member is missed with a chance of `significance`.

    Args:
        communities: disjoint, image indices of each.
        distances: mean over layers and degrees.
        references: image of each column.
        k: neighbours that a score averages.
        constants: the significance.
    """
    grown = [list(members) for members in communities]
    held = as_distances(distances)
    tests = dependences(held, references, communities, k)
    taken = np.isin(references, [i for members in communities for i in members])
    outside = np.flatnonzero(~taken)
    others = np.setdiff1d(np.arange(len(held)), [i for members in communities for i in members])
    found = np.full((len(tests), len(others)), np.inf)
    for c, (members, test) in enumerate(zip(communities, tests)):
        inside = np.flatnonzero(np.isin(references, members))
        own, values = (
            affinities(held, images, inside, outside, test.standout) for images in (members, others.tolist())
        )
        limit = min(NEARER, _further(own[np.isfinite(own)], constants.significance))
        found[c] = np.where(values < limit, values, np.inf)
    for place, i in enumerate(others):
        if len(tests) and np.isfinite(found[:, place]).any():
            grown[int(found[:, place].argmin())].append(int(i))
    return [tuple(members) for members in grown]


def _further(values: Float[np.ndarray, " v"], chance: float) -> float:
    """What one more value of a normal distribution exceeds with this chance (Student's prediction interval)."""
    if len(values) < 2:
        return -np.inf
    spread = values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    return float(values.mean() + stats.t.isf(chance, len(values) - 1) * spread)
