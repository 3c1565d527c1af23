"""Invalid patches: those outside a photo or outside the inspected area.

They are neither scored nor used as references; their distances and scores are `INVALID`, which no distance can be.
"""

import numpy as np
from jaxtyping import Bool, Float

INVALID = np.float32(-1)


def mark_invalid(table: Float[np.ndarray, "r n m p"], inspected: Bool[np.ndarray, "n p"]) -> None:
    """Writes `INVALID` to all distances of the patches that are not inspected, in place."""
    for i in np.flatnonzero(~inspected.all(axis=1)):
        np.copyto(table[:, i], INVALID, where=~inspected[i])


def valid_patches(distances: Float[np.ndarray, "... m p"]) -> Bool[np.ndarray, "... p"]:
    """Which patches are valid; distances may be infinite where a reference is excluded."""
    valid: Bool[np.ndarray, "... p"] = distances.min(axis=-2) >= 0
    return valid


def finite_values(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, " v"]:
    """The finite scores or distances of valid patches, in one row."""
    return values[(values >= 0) & np.isfinite(values)]
