"""Finds communities that share a view and not a defect: parts in the same position, or from the same mould [ours].

Their patches burn out too, but they agree in all patches, while images with a recurring defect have nothing in common
outside the defect.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Bool

from codegraph_jax.core.auroc import auroc
from codegraph_jax.scoring.distances import Distances
from codegraph_jax.similarity.valid import valid_patches

MIN_VIEW_AGREEMENT = 0.92
"""Minimum agreement outside the pattern of a community that shares a view. Measured: planted and real recurring defects
0.34 to 0.87 (drawn parts, bottles, tiles), screws in the same position 0.98 to 1.00."""

MARGIN = 2
"""Width in patches of the margin around linked patches that is left out, since its features depend on the defect."""


def agreement_elsewhere(
    distances: Distances,
    members: Sequence[int],
    linked: Bool[np.ndarray, "n p"],
    grid: tuple[int, int],
) -> float:
    """AUROC of members against other images by their distances outside the pattern; 0.5 without agreement.

    Patches that have links or show a pattern (`linked`) are left out, with a margin. `members` are the images of a
    community.
    """
    inside = np.isin(distances.references, members)
    areas = []
    for i, to_references in zip(members, distances.of_images(members)):
        covered = scipy.ndimage.binary_dilation(linked[i].reshape(grid), np.ones((3, 3)), iterations=MARGIN).ravel()
        usable = np.isfinite(to_references).any(axis=1)
        covered |= ~valid_patches(to_references) | ~np.isfinite(to_references[usable]).all(axis=0)
        if covered.all() or len(set(inside[usable])) < 2:
            continue
        to_image = to_references[usable][:, ~covered].mean(axis=1, dtype=np.float64)
        areas.append(auroc(-to_image[~inside[usable]], -to_image[inside[usable]]))
    # if the pattern and its margin cover all patches, the members agree everywhere
    return float(np.mean(areas)) if areas else 1.0
