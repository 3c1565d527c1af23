"""Distinguishes recurring defects from harmless variants of good parts (docs/method.md section 4.7).

[ours] A harmless variant (an imprint that faces the camera in a third of the images, a view, a production batch) burns
out like a recurring defect, and the permutation test rules out only chance. Filtering a variant gives its good members
the highest scores; not filtering a defect leaves it to plain mutual scoring. So a group is a defect only if all of the
following hold, and is otherwise reported as undecided and not filtered:

- It stands out: the typical member is anomalous compared with images in no group. Parts that merely lie a little
  differently are not.
- It is rough: the nearest repeat of the pattern is farther than that of the rest of the part. Features of the part
  repeat as exactly as the part; dirt, rust and dents only resemble each other.
- It is not a class of its own: non-members are not much farther from the pattern than the members. A pattern that is
  exact within the group and far from all others was made: a print, another version, another view.
- It is not a continuum: the members are about equally far from each other, as in the rest of the part. A pattern that
  moves or turns with the part is close to some members and far from others.

Only a person can recognise a defect that repeats exactly, such as the mark of one tool. Constants and their sweeps:
benchmarks/log/recurring.md, "Variants or defects".
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.config import RecurringConfig
from codegraph_jax.consistency.groups import Evidence
from codegraph_jax.consistency.pattern import PatternVerdict
from codegraph_jax.consistency.pattern_patches import MIN_OUTSIDE, PatternTest
from codegraph_jax.scoring.distances import Distances
from codegraph_jax.scoring.host_block import MIN_DISTANCE
from codegraph_jax.scoring.normal_scores import NormalScores, fit_scores
from codegraph_jax.similarity.host_tables import mean_of_smallest
from codegraph_jax.similarity.valid import finite_values, valid_patches

MAX_SCORE_P_VALUE = 0.05
"""Maximum p-value of the typical member of a defect, compared with images in no group."""
MIN_REPEAT_RATIO = 1.25
"""Minimum `Evidence.repeat_distance_ratio` of a defect."""
MAX_OUTSIDE_RATIO = 2.0
"""Maximum `Evidence.outside_distance_ratio` of a defect."""
MAX_DISTANCE_INEQUALITY = 1.1
"""Maximum `Evidence.distance_inequality_ratio` of a defect."""
FAR_QUANTILE = 0.75
"""Quantile of the distances to members that represents far members."""


def measure_evidence(
    distances: Distances,
    communities: Sequence[Sequence[int]],
    member_patches: Bool[np.ndarray, "n p"],
    tests: Sequence[PatternTest],
    k: int,
) -> list[Evidence | None]:
    """The evidence on each community; None if no patch shows its pattern, or there are too few members or other images.

    `member_patches` show the pattern of their group; the other arguments are those of `pattern_tests`, and its result.
    """
    others = np.setdiff1d(np.arange(len(distances)), [i for members in communities for i in members])
    if len(others) < MIN_OUTSIDE:
        return [None] * len(communities)
    scores = distances.scores(k, images=others)
    normal = fit_scores(np.array([max(finite_values(row), default=0.0) for row in scores])).normal_scores
    evidence: list[Evidence | None] = []
    for members, test in zip(communities, tests, strict=True):
        columns, non_members = distances.columns_of(members), np.array(test.non_member_columns, int)
        by_member = [
            _member_evidence(
                to_references, columns[distances.references[columns] != i], non_members, member_patches[i], normal, k
            )
            for i, to_references in zip(members, distances.of_images(members))
        ]
        measured = np.array([values for values in by_member if values])
        evidence.append(Evidence(*np.median(measured, axis=0).tolist()) if len(measured) else None)
    return evidence


def _member_evidence(
    distances: Float[np.ndarray, "m p"],
    member_columns: Int[np.ndarray, " a"],
    non_member_columns: Int[np.ndarray, " b"],
    pattern_patches: Bool[np.ndarray, " p"],
    normal: NormalScores,
    k: int,
) -> tuple[float, float, float, float] | None:
    """The four values of `Evidence` for one member; None if they cannot be measured."""
    near, far = (
        distances[columns[np.isfinite(distances[columns]).any(axis=1)]]
        for columns in (member_columns, non_member_columns)
    )
    elsewhere = valid_patches(distances) & ~pattern_patches
    # with a radius, some patches have no reference in the radius
    finite = np.isfinite(near).all(axis=0) & np.isfinite(far).all(axis=0)
    elsewhere, pattern_patches = elsewhere & finite, pattern_patches & finite
    if len(near) < 2 or not len(far) or not pattern_patches.any() or not elsewhere.any():
        return None
    near = np.sort(near, axis=0)
    nearest, middle, farther = near[0], near[len(near) // 2], near[min(int(FAR_QUANTILE * len(near)), len(near) - 1)]
    score = mean_of_smallest(far[:, pattern_patches], k).max()
    to_non_members = np.median(far[:, pattern_patches], axis=0)

    def median(values: Float[np.ndarray, " p"], patches: Bool[np.ndarray, " p"]) -> float:
        # distances of exact copies are 0
        return max(float(np.median(values[patches])), MIN_DISTANCE)

    inequality = median(farther, pattern_patches) / median(nearest, pattern_patches)
    return (
        float(normal.p_values(np.array([score]))[0]),
        median(nearest, pattern_patches) / median(nearest, elsewhere),
        float(np.median(to_non_members)) / median(middle, pattern_patches),
        inequality / (median(farther, elsewhere) / median(nearest, elsewhere)),
    )


def decide(evidence: Evidence | None, config: RecurringConfig) -> PatternVerdict:
    """`defect` if all evidence indicates it, or if there is evidence and `config.defects` is `all`; else `undecided`.

    Only a person can call a group harmless.
    """
    if evidence is None:
        return "undecided"
    anomalous = evidence.score_p_value <= MAX_SCORE_P_VALUE and evidence.repeat_distance_ratio >= MIN_REPEAT_RATIO
    compact = (
        evidence.outside_distance_ratio <= MAX_OUTSIDE_RATIO
        and evidence.distance_inequality_ratio <= MAX_DISTANCE_INEQUALITY
    )
    return "defect" if config.defects == "all" or (anomalous and compact) else "undecided"
