"""Targeted patch filtering: finds the patches that show the pattern of a community (docs/method.md section 4.6).

[paper, by name] Only patches that depend on a community are filtered. [ours] The test of dependence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool

from codegraph_jax.consistency.groups import PatchBox
from codegraph_jax.consistency.links import ANOMALY_QUANTILE
from codegraph_jax.core.json_fields import JsonFields
from codegraph_jax.scoring.distances import Distances
from codegraph_jax.similarity.valid import finite_values

DEPENDENCY_QUANTILE = 0.99
"""Quantile, over patches of images in no community, that the dependency of a patch on its own must exceed [ours]."""
MIN_OUTSIDE = 5
"""Minimum number of images in no community, and of non-members of one, to estimate normal scores."""


@dataclass(frozen=True)
class PatternTest(JsonFields):
    """Limits that a patch must exceed to show the pattern of a community.

    A patch shows the pattern if its score grows by more than `min_ratio` when the members are left out of the
    references, and then exceeds `min_score`. Both limits are high values of patches of images in no community; without
    the second, patches of normal parts that merely resemble each other would count.
    """

    non_member_columns: list[int]
    min_ratio: float
    min_score: float


def pattern_tests(distances: Distances, communities: Sequence[Sequence[int]], k: int) -> list[PatternTest]:
    """The limits of each community, measured on the images in no community; infinite if these are too few.

    Args:
        distances: mean over layers and degrees; infinite for excluded references.
        communities: image indices of each community.
        k: number of nearest references that a score averages.
    """
    others = np.setdiff1d(np.arange(len(distances)), [i for community in communities for i in community])
    if len(others) < MIN_OUTSIDE:
        return [PatternTest([], 0.0, np.inf) for _ in communities]
    scores = distances.scores(k, images=others)
    score_limit = float(np.quantile(finite_values(scores), ANOMALY_QUANTILE))
    tests = []
    for community in communities:
        columns = np.flatnonzero(~np.isin(distances.references, community))
        if len(columns) < MIN_OUTSIDE:
            tests.append(PatternTest(columns.tolist(), 0.0, score_limit))
            continue
        without = distances.scores(min(k, len(columns)), columns, others)
        limit = np.quantile(finite_values(without / np.maximum(scores, 1e-12)), DEPENDENCY_QUANTILE)
        tests.append(PatternTest(columns.tolist(), float(limit), score_limit))
    return tests


def shows_pattern(distances: Distances, images: Sequence[int], test: PatternTest, k: int) -> Bool[np.ndarray, "b p"]:
    """Which patches of some images show the pattern of a community; arguments as for `pattern_tests`."""
    columns = np.array(test.non_member_columns, int)
    if len(columns) < MIN_OUTSIDE:
        return np.zeros((len(images), distances.shape[2]), bool)
    scores = distances.scores(k, images=images)
    without = distances.scores(min(k, len(columns)), columns, images)
    dependent = without / np.maximum(scores, 1e-12) > test.min_ratio
    return dependent & (without > test.min_score) & np.isfinite(without)


def find_member_patches(
    distances: Distances,
    communities: Sequence[Sequence[int]],
    tests: Sequence[PatternTest],
    k: int,
) -> Bool[np.ndarray, "n p"]:
    """Patches of members that show the pattern of their community, by the tests of `pattern_tests`; False elsewhere."""
    patches = np.zeros(distances.shape[::2], bool)
    for community, test in zip(communities, tests, strict=True):
        members = list(community)
        patches[members] = shows_pattern(distances, members, test, k)
    return patches


def member_boxes(
    pattern_patches: Bool[np.ndarray, "n p"], members: Sequence[int], grid: tuple[int, int]
) -> tuple[PatchBox, ...]:
    """Bounding boxes of the connected regions of patches in each member; diagonal neighbours are connected."""
    h, w = grid
    boxes = []
    for i in members:
        regions, _ = scipy.ndimage.label(pattern_patches[i].reshape(h, w), structure=np.ones((3, 3)))
        for rows, columns in scipy.ndimage.find_objects(regions):
            boxes.append(PatchBox(i, rows.start / h, columns.start / w, rows.stop / h, columns.stop / w))
    return tuple(boxes)
