"""Communities that share a view and not a defect: parts that lie the same way, or come from one mould [ours].

Their patches burn out together too, wherever the view shows. But they agree everywhere, while the images of a recurring
defect have nothing in common once the defect is covered.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from codegraph_jax.core.auroc import auroc
from codegraph_jax.scoring.distances import Distances, as_distances
from codegraph_jax.similarity.judged import judged_patches

VIEW = 0.92
"""Agreement elsewhere from which a community shares a view. Measured: planted and real recurring defects 0.34 to 0.87
(drawn parts, bottles, tiles), screws that happen to point the same way 0.98 to 1.00."""

MARGIN = 2
"""Patches around a linked one that are covered too: the backbone sees the defect from there."""


def agreement_elsewhere(
    distances: Distances | Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    members: Sequence[int],
    tied: Bool[np.ndarray, "n p"],
    grid: tuple[int, int],
) -> float:
    """How well the members are told from all others by the patches that do not tie them.

    An AUROC, 0.5 where they have nothing else in common.

    Args:
        distances: mean over layers and degrees; infinite where a reference must not serve.
        references: image of each column.
        members: the community.
        tied: patches that link or are flagged; they and their surroundings are covered.
        grid: (h, w) with h * w = p.
    """
    inside = np.isin(references, members)
    areas = []
    for i, to_references in zip(members, as_distances(distances).images(members)):
        covered = ndimage.binary_dilation(tied[i].reshape(grid), np.ones((3, 3)), iterations=MARGIN).ravel()
        usable = np.isfinite(to_references).any(axis=1)
        covered |= ~judged_patches(to_references) | ~np.isfinite(to_references[usable]).all(axis=0)
        if covered.all() or len(set(inside[usable])) < 2:
            continue
        to_image = to_references[usable][:, ~covered].mean(axis=1, dtype=np.float64)
        areas.append(auroc(-to_image[~inside[usable]], -to_image[inside[usable]]))
    # where nothing is left to look at, they agree everywhere
    return float(np.mean(areas)) if areas else 1.0
