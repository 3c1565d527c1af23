"""Near-duplicate photographs of one part: no recurring defect, and no independent observations either [ours].

Their patches agree everywhere, those of a recurring defect in one region only. Left in, they would be the densest
community of all; and each would hide the other's defects.
"""

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.scoring.distances import Distances, as_distances

RANK, QUANTILE, RATIO = 5, 0.9, 0.5
"""Two images are duplicates where nine tenths of the patches of each are at most half as far from the other image as
from their fifth nearest: the same part stands out from all that merely look alike, and up to five photographs of it are
recognised. Magnetic tiles that were photographed twice reach 0.11 to 0.72, most of them at another exposure; but two
screws that lie alike on the same ground reach 0.67, and parts that are only like each other must not lose each other as
references. Held against the usual mutual score instead of the fifth nearest, hundreds of pairs of screws would pass."""


def duplicate_pairs(
    distances: Distances | Float[np.ndarray, "n m p"], references: Int[np.ndarray, " m"]
) -> Bool[np.ndarray, "n m"]:
    """Which references show the same part as an image, without the image itself.

    Args:
        distances: mean over layers and degrees; infinite where a reference is the image itself.
        references: image of each column.
    """
    held = as_distances(distances)
    n, m, _ = held.shape
    if m <= RANK:
        return np.zeros((n, m), bool)
    agreement = held.agreement(RANK, QUANTILE)
    # both must agree with each other; an image that is no reference can only be asked itself
    other = agreement.copy()
    other[references] = agreement[references].T
    return np.maximum(agreement, other) < RATIO


def shown_by(distances: Distances | Float[np.ndarray, "a m p"]) -> Bool[np.ndarray, "a m"]:
    """Which references show the same part as an image that is not of the set; only this image can be asked."""
    held = as_distances(distances)
    if held.shape[1] <= RANK:
        return np.zeros(held.shape[:2], bool)
    return held.agreement(RANK, QUANTILE) < RATIO


def same_part(distances: Distances, references: Int[np.ndarray, " m"], added: int = 0) -> Bool[np.ndarray, "n m"]:
    """Which references show the same part as an image, of the set (`duplicate_pairs`) or added to it (`shown_by`).

    Args:
        distances: mean over layers and degrees; infinite where a reference is the image itself.
        references: image of each column.
        added: the last so many images do not belong to the set.
    """
    own = len(distances) - added
    of_set = duplicate_pairs(distances.select(slice(own)), references)
    return np.concatenate([of_set, shown_by(distances.select(slice(own, None)))]) if added else of_set


def groups(pairs: Bool[np.ndarray, "n m"], references: Int[np.ndarray, " m"]) -> tuple[tuple[int, ...], ...]:
    """Photographs of the same part, two or more each, in ascending order."""
    graph = nx.Graph((int(i), int(references[c])) for i, c in zip(*np.nonzero(pairs)))
    return tuple(sorted(tuple(sorted(part)) for part in nx.connected_components(graph)))
