"""The positions of photos in their grids of patches, and the patches that are inspected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.data.frame import Frame, PhotoRect


@dataclass(frozen=True)
class Placement:
    """The positions of n photos of these (width, height) in their grids, and the inspected patches; None: all."""

    frame: Frame
    sizes: Int[np.ndarray, "n 2"]
    inspected: Bool[np.ndarray, "n p"] | None = None

    def rect(self, image: int) -> PhotoRect:
        """The rectangle of a photo in its grid."""
        return self.frame.rect(*map(int, self.sizes[image]))

    def rects(self, images: slice | Sequence[int] = slice(None)) -> list[PhotoRect]:
        """The rectangles of some photos (default: all)."""
        return [self.frame.rect(*size) for size in self.sizes[images].tolist()]

    def select(self, images: Int[np.ndarray, " k"] | Sequence[int] | slice) -> "Placement":
        """The placement of some of the photos."""
        inspected = None if self.inspected is None else self.inspected[images]
        return replace(self, sizes=self.sizes[images], inspected=inspected)

    @classmethod
    def joined(cls, parts: Sequence["Placement"]) -> "Placement":
        """The placement of the photos of several placements with the same frame."""
        patches = parts[0].frame.grid[0] * parts[0].frame.grid[1]
        whole = cls(parts[0].frame, np.concatenate([part.sizes for part in parts]))
        inspected = [np.ones((len(p.sizes), patches), bool) if p.inspected is None else p.inspected for p in parts]
        return whole.within(np.concatenate(inspected))

    def within(self, patches: Bool[np.ndarray, "n p"]) -> "Placement":
        """The placement in which only these patches are inspected, among those inspected already."""
        inspected = patches if self.inspected is None else patches & self.inspected
        return self if inspected.all() else replace(self, inspected=inspected)

    def inspected_scores(self, patch_scores: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " v"]:
        """Scores of the patches that are inspected."""
        flat = patch_scores.reshape(len(patch_scores), -1)
        return flat.ravel() if self.inspected is None else flat[self.inspected]
