"""Boxes of recurring patterns on a photo."""

from dataclasses import dataclass

import numpy as np

from codegraph_jax.consistency.groups import PatchBox
from codegraph_jax.data.placement import Placement


@dataclass(frozen=True)
class Box:
    """Edges of a rectangle as fractions of the image's width and height, in [0, 1]."""

    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> list[int]:
        """[left, top, right, bottom] in pixels of an image, rounded outwards; right and bottom are exclusive."""
        return [
            int(np.floor(self.left * width)),
            int(np.floor(self.top * height)),
            int(np.ceil(self.right * width)),
            int(np.ceil(self.bottom * height)),
        ]


def box_on_photo(box: PatchBox, placement: Placement) -> Box:
    """A box of patches as fractions of the photo."""
    (rows, columns), rect = placement.frame.grid, placement.rect(box.image)
    across, down = (
        ((edge * columns - rect.left) / rect.width for edge in (box.left, box.right)),
        ((edge * rows - rect.top) / rect.height for edge in (box.top, box.bottom)),
    )
    left, right, top, bottom = (min(max(edge, 0.0), 1.0) for edge in (*across, *down))
    return Box(left, top, right, bottom)
