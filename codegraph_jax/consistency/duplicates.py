"""Near-duplicate photographs of one part: no recurring defect, and no independent witnesses either. [ours]

Their patches agree everywhere, those of a recurring defect in one region only. Left in, they would be the densest
community of all; and each would hide the other's defects.
"""

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.similarity.judged import judged_patches

RANK, QUANTILE, RATIO = 5, 0.9, 0.5
"""Two images are duplicates where nine tenths of the patches of each are at most half as far from the other image as
from their fifth nearest: the same part stands out from all that merely look alike, and up to five photographs of it are
recognised. Magnetic tiles that were photographed twice reach 0.11 to 0.72, most of them at another exposure; but two
screws that lie alike on the same ground reach 0.67, and parts that are only like each other must not lose each other as
references. Held against the usual mutual score instead of the fifth nearest, hundreds of pairs of screws would pass."""


def duplicate_pairs(
    distances: Float[np.ndarray, "n m p"], references: Int[np.ndarray, " m"]
) -> Bool[np.ndarray, "n m"]:
    """Which references show the same part as an image, without the image itself.

    Args:
        distances: mean over layers and degrees; infinite where a reference is the image itself.
        references: image of each column.
    """
    n, m, _ = distances.shape
    if m <= RANK:
        return np.zeros((n, m), bool)
    agreement = np.empty((n, m))
    for i, to_references in enumerate(distances):
        agreement[i] = _agreement(to_references)
    # both must agree with each other; an image that is no reference can only be asked itself
    other = agreement.copy()
    other[references] = agreement[references].T
    return np.maximum(agreement, other) < RATIO


def shown_by(distances: Float[np.ndarray, "m p"]) -> Bool[np.ndarray, " m"]:
    """Which references show the same part as an image that is not of the set; only this image can be asked."""
    if len(distances) <= RANK:
        return np.zeros(len(distances), bool)
    return _agreement(distances) < RATIO


def same_part(
    distances: Float[np.ndarray, "n m p"], references: Int[np.ndarray, " m"], added: int = 0
) -> Bool[np.ndarray, "n m"]:
    """Which references show the same part as an image, of the set (`duplicate_pairs`) or added to it (`shown_by`).

    Args:
        distances: mean over layers and degrees; infinite where a reference is the image itself.
        references: image of each column.
        added: the last so many images do not belong to the set.
    """
    own = len(distances) - added
    pairs = np.zeros(distances.shape[:2], bool)
    pairs[:own] = duplicate_pairs(distances[:own], references)
    for i in range(own, len(distances)):
        pairs[i] = shown_by(distances[i])
    return pairs


def _agreement(distances: Float[np.ndarray, "m p"]) -> Float[np.ndarray, " m"]:
    """How near each reference is to nine tenths of an image's patches, their fifth nearest counting as 1."""
    judged = judged_patches(distances)
    if not judged.any():
        return np.full(len(distances), np.inf)
    if not judged.all():
        distances = distances[:, judged]
    place = int(QUANTILE * (distances.shape[1] - 1))
    usual = np.maximum(np.partition(distances, RANK - 1, axis=0)[RANK - 1], 1e-12)
    # a patch that has hardly anybody to be judged by says nothing
    usual[~np.isfinite(usual)] = 1e-12
    return np.partition(distances / usual, place, axis=1)[:, place]


def groups(pairs: Bool[np.ndarray, "n m"], references: Int[np.ndarray, " m"]) -> tuple[tuple[int, ...], ...]:
    """Photographs of the same part, two or more each, in ascending order."""
    graph = nx.Graph((int(i), int(references[c])) for i, c in zip(*np.nonzero(pairs)))
    return tuple(sorted(tuple(sorted(part)) for part in nx.connected_components(graph)))
