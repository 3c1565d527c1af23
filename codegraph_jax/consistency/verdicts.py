"""Defect or variant? What tells a recurring defect from a harmless variant of good parts (docs/method.md section 4.7).

[ours] An imprint that faces the camera in a third of the images, a view, a batch: a harmless variant burns out exactly
as a recurring defect does, and a permutation test only says that chance does not explain the group. Filtering a variant
lifts its members, good ones among them, above everything else; leaving a defect in costs what mutual scoring costs. So
a group counts as a defect only where all of the following speak for it, and is otherwise reported and left alone:

- It stands out. Judged by the images outside, the typical member is anomalous. (Parts that merely lie a little
  differently are not.)
- It is rough. The nearest repeat of the pattern is farther than that of the rest of the part. What belongs to the part
  repeats as exactly as the part does; dirt, rust and dents only resemble each other.
- It is no class of its own. The members are not much closer to each other than the others are to them: what is exact
  within and alien without was made (a print, another version, another view).
- It is no continuum. The members are about equally far from each other, as the rest of the part is. A pattern that
  moves or turns with the part is near to some members and far from others.

What repeats exactly and is a defect all the same (the mark of one tool, say) is told by nothing but a person, who can
say so. Constants and their sweeps: benchmarks/log/recurring.md, "Variants or defects".
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.config import ConsistencyConfig
from codegraph_jax.consistency.community import Evidence
from codegraph_jax.consistency.filtering import Dependence
from codegraph_jax.consistency.pattern import Verdict
from codegraph_jax.scoring.distances import Distances, as_distances
from codegraph_jax.scoring.host_block import SMALLEST_DISTANCE
from codegraph_jax.scoring.normal_scores import NormalScores, fit_normal_scores
from codegraph_jax.similarity.host_tables import mean_of_smallest
from codegraph_jax.similarity.judged import judged_patches, usual

STANDS_OUT = 0.05
"""Greatest p-value of the typical member, judged by the images outside."""
ROUGH = 1.25
"""Least distance of the nearest repeat, in multiples of that of the rest of the part."""
ALIEN = 2.0
"""Greatest distance to images outside, in multiples of that to members."""
CONTINUUM = 1.1
"""Greatest inequality of the distances between members, in multiples of that of the rest of the part."""
FAR = 0.75
"""Quantile of the distances to members that stands for the far ones."""


def weigh(
    distances: Distances | Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    communities: Sequence[Sequence[int]],
    shown: Bool[np.ndarray, "n p"],
    tests: Sequence[Dependence],
    k: int,
) -> list[Evidence | None]:
    """The evidence on every community; None where it shows no patch, or too few references are members.

    Args:
        distances: mean over layers and degrees; infinite where a reference must not serve.
        references: image of each column.
        communities: image indices of each.
        shown: patches of members that show what their community shares.
        tests: of `dependences`, for each community.
        k: neighbours that a score averages.
    """
    held = as_distances(distances)
    outside = np.setdiff1d(np.arange(len(held)), [i for members in communities for i in members])
    highest = np.array([max(usual(scores), default=0.0) for scores in held.scores(k, images=outside)])
    normal = fit_normal_scores(highest)
    found: list[Evidence | None] = []
    for members, test in zip(communities, tests):
        inside = np.flatnonzero(np.isin(references, members))
        evidence = [
            _member_evidence(to_references, inside[references[inside] != i], test.outside, shown[i], normal, k)
            for i, to_references in zip(members, held.images(members))
        ]
        known = np.array([observed for observed in evidence if observed])
        found.append(Evidence(*np.median(known, axis=0).tolist()) if len(known) else None)
    return found


def _member_evidence(
    distances: Float[np.ndarray, "m p"],
    inside: Int[np.ndarray, " a"],
    outside: Int[np.ndarray, " b"],
    pattern: Bool[np.ndarray, " p"],
    normal: NormalScores,
    k: int,
) -> tuple[float, float, float, float] | None:
    """What one member says: p-value, roughness, contrast and spread; None where it says nothing."""
    near, far = (distances[columns[np.isfinite(distances[columns]).any(axis=1)]] for columns in (inside, outside))
    rest = judged_patches(distances) & ~pattern
    # within a radius some patches may meet nobody
    met = np.isfinite(near).all(axis=0) & np.isfinite(far).all(axis=0)
    rest, pattern = rest & met, pattern & met
    if len(near) < 2 or not len(far) or not pattern.any() or not rest.any():
        return None
    near = np.sort(near, axis=0)
    nearest, middle, farther = near[0], near[len(near) // 2], near[min(int(FAR * len(near)), len(near) - 1)]
    score = mean_of_smallest(far[:, pattern], k).max()
    outside_of_it = np.median(far[:, pattern], axis=0)

    def of(values: Float[np.ndarray, " p"], patches: Bool[np.ndarray, " p"]) -> float:
        # exact copies are at no distance
        return max(float(np.median(values[patches])), SMALLEST_DISTANCE)

    unequal = of(farther, pattern) / of(nearest, pattern)
    return (
        float(normal.p_values(np.array([score]))[0]),
        of(nearest, pattern) / of(nearest, rest),
        float(np.median(outside_of_it)) / of(middle, pattern),
        unequal / (of(farther, rest) / of(nearest, rest)),
    )


def decide(evidence: Evidence | None, config: ConsistencyConfig) -> Verdict:
    """`defect` where everything speaks for it, else `undecided`; that a group is harmless only a person can say."""
    if evidence is None:
        return "undecided"
    repeats_roughly = evidence.p_value <= STANDS_OUT and evidence.roughness >= ROUGH
    one_kind = evidence.contrast <= ALIEN and evidence.spread <= CONTINUUM
    return "defect" if config.undecided == "filter" or (repeats_roughly and one_kind) else "undecided"
