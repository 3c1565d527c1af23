"""Peak patches: the patches of an image with the greatest scores, compared by their feature vectors."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int
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
