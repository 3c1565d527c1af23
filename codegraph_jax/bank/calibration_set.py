"""The set of a bank, scored by the bank."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.bank.peak_patches import PeakPatches

MAX_PEAKS = 3000
"""Maximum number of peak patches that are stored."""


@dataclass(frozen=True)
class CalibrationSet:
    """The bank's set, scored by the bank: image scores, and peak patches of the images that were not flagged.

    Members of a recurring defect (`defect_members`) are excluded from the calibration.
    """

    scores: Float[np.ndarray, " n"]
    defect_members: Bool[np.ndarray, " n"]
    peak_patches: PeakPatches

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Arrays for the file of a bank; `from_tensors` restores them."""
        return {
            "set_scores": self.scores,
            "set_defect_members": self.defect_members,
            "set_peak_patches": self.peak_patches.vectors.astype(np.float16),
            "set_peak_patch_scores": self.peak_patches.scores,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> "CalibrationSet":
        """Restores a set from the arrays of `to_tensors`.

        Raises:
            ValueError: the shapes do not match.
        """
        scores, defect_members = tensors["set_scores"].astype(np.float64), tensors["set_defect_members"].astype(bool)
        vectors = tensors["set_peak_patches"].astype(np.float32)
        peak_scores = tensors["set_peak_patch_scores"].astype(np.float32)
        fitting = defect_members.shape == scores.shape and peak_scores.shape == vectors.shape[:1]
        if not fitting or scores.ndim != 1 or vectors.ndim != 2:
            raise ValueError("the shapes of the arrays of its set do not match")
        return cls(scores, defect_members, PeakPatches(vectors, peak_scores))
