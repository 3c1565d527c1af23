"""The positions of photos in their grids of patches, and the patches that are inspected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.data.frame import Frame, PhotoRect


@dataclass(frozen=True)
class Placement:
    """The positions of n photos of these (width, height) in their grids, and the inspected patches."""

    frame: Frame
    sizes: Int[np.ndarray, "n 2"]
    inspected: Bool[np.ndarray, "n p"]

    @classmethod
    def whole(cls, frame: Frame, sizes: Int[np.ndarray, "n 2"]) -> "Placement":
        """The placement in which all patches that the photos cover are inspected."""
        return cls(frame, sizes, frame.covered([frame.rect(*size) for size in sizes.tolist()]))

    @property
    def everything_inspected(self) -> bool:
        """Whether every patch of every grid is inspected, which allows faster computations."""
        return bool(self.inspected.all())

    def rect(self, image: int) -> PhotoRect:
        """The rectangle of a photo in its grid."""
        return self.frame.rect(*map(int, self.sizes[image]))

    def rects(self, images: slice | Sequence[int] = slice(None)) -> list[PhotoRect]:
        """The rectangles of some photos (default: all)."""
        return [self.frame.rect(*size) for size in self.sizes[images].tolist()]

    def select(self, images: Int[np.ndarray, " k"] | Sequence[int] | slice) -> "Placement":
        """The placement of some of the photos."""
        return replace(self, sizes=self.sizes[images], inspected=self.inspected[images])

    @classmethod
    def joined(cls, placements: Sequence["Placement"]) -> "Placement":
        """The placement of the photos of several placements with the same frame."""
        sizes = np.concatenate([one.sizes for one in placements])
        return cls(placements[0].frame, sizes, np.concatenate([one.inspected for one in placements]))

    def within(self, patches: Bool[np.ndarray, "n p"]) -> "Placement":
        """The placement in which only these patches are inspected, among those inspected already."""
        return replace(self, inspected=patches & self.inspected)

    def inspected_scores(self, patch_scores: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " v"]:
        """Scores of the patches that are inspected."""
        return patch_scores.reshape(len(patch_scores), -1)[self.inspected]
