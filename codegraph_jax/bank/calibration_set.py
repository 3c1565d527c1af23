"""Scores and peak patches of a bank's set, which a bank stores beside its references."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.bank.peak_patches import PeakPatches

MOST_PEAKS = 3000
"""Greatest number of peak patches that are stored."""


@dataclass(frozen=True)
class CalibrationSet:
    """The bank's set, scored by the bank.

    Attributes:
        scores: image scores [n].
        proven: members of a recurring defect, which are excluded from the calibration [n].
        peak_patches: peak patches of the images that were not flagged.
    """

    scores: Float[np.ndarray, " n"]
    proven: Bool[np.ndarray, " n"]
    peak_patches: PeakPatches

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays for the file of a bank; `read` restores them."""
        return {
            "set_scores": self.scores,
            "set_proven": self.proven,
            "set_peak_patches": self.peak_patches.vectors.astype(np.float16),
            "set_peak_patch_scores": self.peak_patches.scores,
        }

    @classmethod
    def read(cls, tensors: dict[str, np.ndarray]) -> "CalibrationSet":
        """Restores a set from `tensors`.

        Raises:
            ValueError: the shapes do not match, or values are not finite.
        """
        scores, proven = tensors["set_scores"].astype(np.float64), tensors["set_proven"].astype(bool)
        vectors = tensors["set_peak_patches"].astype(np.float32)
        distances = tensors["set_peak_patch_scores"].astype(np.float32)
        if (
            scores.ndim != 1
            or proven.shape != scores.shape
            or distances.shape != vectors.shape[:1]
            or vectors.ndim != 2
        ):
            raise ValueError("the shapes of the arrays of its set do not match")
        if not all(np.isfinite(x).all() for x in (scores, vectors, distances)):
            raise ValueError("the arrays of its set hold values that are not finite")
        return cls(scores, proven, PeakPatches(vectors, distances))
