"""Adds images that show the defect of a community but have too few links [ours].

The burnout test often misses members of a small group in a wide window. For a known community the test is simpler: the
image needs a patch that is far from images in no community, at least a fifth nearer to the members, and as near as that
of another member would be.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float, Int

from codegraph_jax.consistency.graph import SIGNIFICANCE
from codegraph_jax.consistency.pattern_patches import pattern_tests
from codegraph_jax.scoring.distances import Distances

MAX_AFFINITY = 0.8
"""Maximum affinity ratio of an image that joins. Measured (benchmarks/log/recurring.md): images that show the defect
0.54 to 0.79; of all other images, one with a similar one-off defect 0.67 (members of that community: 0.52 to 0.57), one
0.78, and all others above 0.85."""

MEMBER_QUANTILE, OTHER_RANK = 0.75, 4
"""Quantile of the distances to members, and rank among images in no community, that are compared; rank 4 tolerates up
to three undiscovered members among these images."""


def affinities(
    distances: Distances,
    images: Sequence[int],
    member_columns: Int[np.ndarray, " a"],
    other_columns: Int[np.ndarray, " b"],
    distance_limit: float,
) -> Float[np.ndarray, " i"]:
    """Ratio of the distance to members and to images in no community: the least over the patches of each image.

    `other_columns` are the columns of references in no community. A patch counts if its distance to them exceeds
    `distance_limit`; the ratio is infinite if none does.
    """
    near = distances.quantile(MEMBER_QUANTILE, member_columns, images)
    far = distances.kth(OTHER_RANK, other_columns, images)
    # with a radius, distances to images without any patch within it are infinite
    counts = np.isfinite(near) & np.isfinite(far) & (far > distance_limit)
    ratios = np.full(near.shape, np.inf)
    np.divide(near, np.maximum(far, 1e-12), out=ratios, where=counts)
    return np.where(ratios >= 0, ratios, np.inf).min(axis=1, initial=np.inf)


def with_missed_members(
    communities: Sequence[Sequence[int]],
    distances: Distances,
    k: int,
) -> list[tuple[int, ...]]:
    """Adds to each community the images that show its defect; each image joins the nearest community only.

    An image joins if its affinity is below `MAX_AFFINITY` and below the upper prediction bound for another member,
    which a true member exceeds with probability `SIGNIFICANCE`. Arguments as for `pattern_tests`.
    """
    grown = [list(members) for members in communities]
    others = np.setdiff1d(np.arange(len(distances)), [i for members in communities for i in members])
    other_columns = distances.columns_of(others)
    joining = np.full((len(communities), len(others)), np.inf)
    for c, (members, test) in enumerate(zip(communities, pattern_tests(distances, communities, k), strict=True)):
        if not test.non_member_columns:
            continue
        member_columns = distances.columns_of(members)
        of_members, values = (
            affinities(distances, images, member_columns, other_columns, test.min_score)
            for images in (members, others.tolist())
        )
        limit = min(MAX_AFFINITY, _prediction_bound(of_members[np.isfinite(of_members)], SIGNIFICANCE))
        joining[c] = np.where(values < limit, values, np.inf)
    for index, i in enumerate(others):
        if np.isfinite(joining[:, index]).any():
            grown[int(joining[:, index].argmin())].append(int(i))
    return [tuple(members) for members in grown]


def _prediction_bound(values: Float[np.ndarray, " v"], chance: float) -> float:
    """Bound that another value of the same normal distribution exceeds with this probability (Student's t)."""
    if len(values) < 2:
        return -np.inf
    spread = values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    return float(values.mean() + scipy.stats.t.isf(chance, len(values) - 1) * spread)
