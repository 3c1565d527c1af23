"""Peak patches: the patches of an image with the greatest scores, compared by their feature vectors."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

PEAKS_PER_IMAGE = 3
"""Number of peak patches per image."""
PEAK_NEIGHBOURHOOD = 5
"""Side in patches of the neighbourhood in which a peak patch has the greatest score."""


@dataclass(frozen=True)
class PeakPatches:
    """Peak patches of one or several images: unit vectors of `signature.patch_vectors`, and their scores."""

    vectors: Float[np.ndarray, "m d"]
    scores: Float[np.ndarray, " m"]

    @classmethod
    def of(
        cls, vectors: Float[np.ndarray, "p d"], scores: Float[np.ndarray, "h w"], min_score: float = 0.0
    ) -> "PeakPatches":
        """The peak patches of an image with a score of at least `min_score`, chosen from all its patches."""
        chosen = peaks(scores, min_score)
        return cls(vectors[chosen], scores.ravel()[chosen])

    @classmethod
    def empty(cls, width: int) -> "PeakPatches":
        """No peak patches, for vectors of this length."""
        return cls(np.zeros((0, width), np.float32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.scores)

    def to_bytes(self) -> bytes:
        """The peak patches in the format of safetensors."""
        return bytes(
            save_tensors({"vectors": self.vectors.astype(np.float16), "scores": np.asarray(self.scores, np.float32)})
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "PeakPatches":
        """Restores peak patches from `to_bytes`."""
        tensors = load_tensors(data)
        return cls(tensors["vectors"].astype(np.float32), tensors["scores"])

    def distance_ratios(self, other: "PeakPatches") -> Float[np.ndarray, "a b"]:
        """Distances to other peak patches, relative to the scores: |y - z| / sqrt(s(y) s(z)).

        About 0.7 for two patches of the same defect, above 1 for different ones.
        """
        squares = np.maximum(2 - 2 * self.vectors @ other.vectors.T, 0)
        ratios: Float[np.ndarray, "a b"] = np.sqrt(squares / np.maximum(np.outer(self.scores, other.scores), 1e-12))
        return ratios

    def without_similar(self, known: "PeakPatches", limit: float) -> "PeakPatches":
        """The patches whose `distance_ratios` to all known patches is above a limit."""
        if not len(known) or not len(self):
            return self
        new = self.distance_ratios(known).min(axis=1) > limit
        return PeakPatches(self.vectors[new], self.scores[new])


def peaks(scores: Float[np.ndarray, "h w"], min_score: float) -> Int[np.ndarray, " m"]:
    """Indices of the peak patches with scores of `min_score` or more, by descending score."""
    greatest = scipy.ndimage.maximum_filter(scores, PEAK_NEIGHBOURHOOD, mode="nearest")
    indices = np.flatnonzero(((scores >= greatest) & (scores >= min_score)).ravel())
    return indices[np.argsort(-scores.ravel()[indices], kind="stable")][:PEAKS_PER_IMAGE]


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
