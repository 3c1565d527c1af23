"""The positions of photos in their grids of patches, and the patches that are inspected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.data.frame import Content, Frame


@dataclass(frozen=True)
class Placement:
    """The positions of n photos in their grids, and the patches that are inspected.

    Attributes:
        frame: frame of all photos.
        sizes: width and height of each photo in pixels [n, 2].
        judged: patches that are inspected [n, p]; None: all.
    """

    frame: Frame
    sizes: Int[np.ndarray, "n 2"]
    judged: Bool[np.ndarray, "n p"] | None = None

    def content(self, image: int) -> Content:
        """The rectangle of a photo in its grid."""
        return self.frame.content(*map(int, self.sizes[image]))

    def contents(self, images: slice | Sequence[int] = slice(None)) -> list[Content]:
        """The rectangles of some photos (default: all)."""
        return [self.frame.content(*size) for size in self.sizes[images].tolist()]

    def of(self, images: Int[np.ndarray, " k"] | Sequence[int] | slice) -> "Placement":
        """The placement of some of the photos."""
        return replace(self, sizes=self.sizes[images], judged=None if self.judged is None else self.judged[images])

    @classmethod
    def joined(cls, parts: Sequence["Placement"]) -> "Placement":
        """The placement of the photos of several placements with the same frame."""
        patches = parts[0].frame.grid[0] * parts[0].frame.grid[1]
        whole = cls(parts[0].frame, np.concatenate([part.sizes for part in parts]))
        judged = [np.ones((len(p.sizes), patches), bool) if p.judged is None else p.judged for p in parts]
        return whole.within(np.concatenate(judged))

    def within(self, inspected: Bool[np.ndarray, "n p"]) -> "Placement":
        """The placement restricted to some inspected patches."""
        judged = inspected if self.judged is None else inspected & self.judged
        return self if judged.all() else replace(self, judged=judged)

    def judged_scores(self, patch_scores: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " v"]:
        """Scores of the patches that are inspected."""
        flat = patch_scores.reshape(len(patch_scores), -1)
        return flat.ravel() if self.judged is None else flat[self.judged]
