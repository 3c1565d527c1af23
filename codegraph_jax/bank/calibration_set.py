"""What a bank remembers of the set that made it, besides what it scores by."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.bank.peak_patches import PeakPatches

MOST_PEAKS = 3000
"""Patches that are remembered."""


@dataclass(frozen=True)
class CalibrationSet:
    """The set as the bank scores it.

    Attributes:
        scores: of its images [n].
        proven: members of a recurring defect, from whose scores nothing is learnt [n].
        standouts: of the images that were not flagged: where normal parts differ most from each other.
    """

    scores: Float[np.ndarray, " n"]
    proven: Bool[np.ndarray, " n"]
    standouts: PeakPatches

    def tensors(self) -> dict[str, np.ndarray]:
        """For the file of a bank; `read` takes them back."""
        return {
            "set_scores": self.scores,
            "set_proven": self.proven,
            "set_standouts": self.standouts.vectors.astype(np.float16),
            "set_standout_scores": self.standouts.scores,
        }

    @classmethod
    def read(cls, tensors: dict[str, np.ndarray]) -> "CalibrationSet":
        """Reads the arrays of `tensors`.

        Raises:
            ValueError: they do not fit together, or are not finite.
        """
        scores, proven = tensors["set_scores"].astype(np.float64), tensors["set_proven"].astype(bool)
        vectors = tensors["set_standouts"].astype(np.float32)
        distances = tensors["set_standout_scores"].astype(np.float32)
        if (
            scores.ndim != 1
            or proven.shape != scores.shape
            or distances.shape != vectors.shape[:1]
            or vectors.ndim != 2
        ):
            raise ValueError("what it remembers of its set does not fit together")
        if not all(np.isfinite(x).all() for x in (scores, vectors, distances)):
            raise ValueError("what it remembers of its set are no numbers")
        return cls(scores, proven, PeakPatches(vectors, distances))
