"""Patches that are not judged, and how tables of distances say so.

What lies outside of a photograph or of what is to be inspected neither judges nor is judged. As references such patches
are left out by the kernels; the distances of such a patch itself are all `NOT_JUDGED`, which no distance can be, and so
are the scores that come of them.
"""

import numpy as np
from jaxtyping import Bool, Float

NOT_JUDGED = np.float32(-1)


def mark_not_judged(table: Float[np.ndarray, "r n m p"], judged: Bool[np.ndarray, "n p"]) -> None:
    """Writes `NOT_JUDGED` to all distances of the patches that are not judged, in place."""
    for i in np.flatnonzero(~judged.all(axis=1)):
        np.copyto(table[:, i], NOT_JUDGED, where=~judged[i])


def judged_patches(distances: Float[np.ndarray, "... m p"]) -> Bool[np.ndarray, "... p"]:
    """Which patches are judged; the distances may be infinite where a reference must not serve."""
    judged: Bool[np.ndarray, "... p"] = distances.min(axis=-2) >= 0
    return judged


def usual(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, " v"]:
    """The scores, or distances, of patches that are judged and have somebody to be judged by."""
    return values[(values >= 0) & np.isfinite(values)]
