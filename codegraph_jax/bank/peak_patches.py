"""Patches that stand out, as they are told from each other: by what, and how far, they differ from what is normal."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from scipy import ndimage

PLACES = 3
"""Patches of an image that are kept, each the greatest within APART patches."""
APART = 5


@dataclass(frozen=True)
class PeakPatches:
    """Some patches of one image, or of several.

    Attributes:
        vectors: unit vectors, as `signature.patch_vectors` makes them [m, d].
        scores: their distance to what is normal [m].
    """

    vectors: Float[np.ndarray, "m d"]
    scores: Float[np.ndarray, " m"]

    @classmethod
    def of(
        cls, vectors: Float[np.ndarray, "p d"], scores: Float[np.ndarray, "h w"], least: float = 0.0
    ) -> "PeakPatches":
        """The peaks of an image's scores from `least` on.

        Args:
            vectors: of all its patches.
            scores: of all its patches.
            least: in the unit of the scores.
        """
        chosen = peaks(scores, least)
        return cls(vectors[chosen], scores.ravel()[chosen])

    @classmethod
    def nothing(cls, width: int) -> "PeakPatches":
        """None, of vectors of so many numbers."""
        return cls(np.zeros((0, width), np.float32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.scores)

    def to_bytes(self) -> bytes:
        """For a file; `from_bytes` reads it."""
        return bytes(
            save_tensors({"vectors": self.vectors.astype(np.float16), "scores": np.asarray(self.scores, np.float32)})
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "PeakPatches":
        """What `to_bytes` gave."""
        tensors = load_tensors(data)
        return cls(tensors["vectors"].astype(np.float32), tensors["scores"])

    def alikeness(self, other: "PeakPatches") -> Float[np.ndarray, "a b"]:
        """Distance of each patch to each of another set, as a share of their distance to what is normal.

        |y - z| / sqrt(s(y) s(z)): about 0.7 where both show the same thing, above 1 where they do not.
        """
        squares = np.maximum(2 - 2 * self.vectors @ other.vectors.T, 0)
        alike: Float[np.ndarray, "a b"] = np.sqrt(squares / np.maximum(np.outer(self.scores, other.scores), 1e-12))
        return alike

    def unlike(self, known: "PeakPatches", limit: float) -> "PeakPatches":
        """Those that are not so alike to anything known."""
        if not len(known) or not len(self):
            return self
        new = self.alikeness(known).min(axis=1) > limit
        return PeakPatches(self.vectors[new], self.scores[new])


def peaks(scores: Float[np.ndarray, "h w"], least: float) -> Int[np.ndarray, " m"]:
    """Patches with the greatest scores from `least` on, each the greatest around it, the greatest of all first."""
    greatest = ndimage.maximum_filter(scores, APART, mode="nearest")
    found = np.flatnonzero(((scores >= greatest) & (scores >= least)).ravel())
    return found[np.argsort(-scores.ravel()[found], kind="stable")][:PLACES]
