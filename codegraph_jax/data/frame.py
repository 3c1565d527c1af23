"""Converts the photos of a set to grids of patches: resized to a square, padded, or cut into tiles.

`squeeze` resizes every photo to a square, without its aspect ratio, as MuSc does.

`pad` and `tile` keep the aspect ratio. All photos of a set share one grid: each photo is scaled so that its longer side
has the same number of patches, both sides are rounded to whole patches, and the photo is centred in the smallest grid
that holds all of them. With `pad`, a photo of the median aspect ratio has as many patches as the square. With `tile`,
the longer side is a chosen share of the median longer side, and the grid is cut into overlapping tiles of the
backbone's image size; overlaps are blended (`features.tokens`).

The border around a photo consists of whole patches. The backbone sees the mean colour there; its patches are ignored
afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image

from codegraph_jax.core.json_fields import JsonFields
from codegraph_jax.data.images import RESAMPLE, full_size

MAX_TILED_SIDE = 2016
"""Maximum longer side of tiled photos in pixels, if no scale is given."""
TILE_OVERLAP = 0.125
"""Minimum share of a tile that overlaps its neighbour. [ours: a quarter takes longer and finds less
(benchmarks/log/accuracy.md, "Large photographs")]"""


@dataclass(frozen=True)
class PhotoRect:
    """The rectangle of a photo in its grid, in patches."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, values: Shaped[np.ndarray, "... h w"]) -> Shaped[np.ndarray, "... a b"]:
        """The values of the photo, cut out of the values of a grid."""
        return values[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Frame(JsonFields):
    """The conversion of the photos of a set to grids of patches.

    Attributes:
        fit: `squeeze`, `pad` or `tile`.
        grid: (h, w) of all grids, in patches.
        patch_size: side of a patch in pixels of the backbone's input.
        longest_patches: patches along the longer side of every photo; unused for `squeeze`.
        tile: patches along the side of a tile, which may exceed the grid; 0 without tiles.
        overlap: least number of patches that neighbouring tiles share.
    """

    fit: str
    grid: tuple[int, int]
    patch_size: int
    longest_patches: int = 0
    tile: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        known = self.fit in ("squeeze", "pad", "tile") and min(*self.grid, self.patch_size) > 0
        fitting = min(self.longest_patches, self.tile) >= 0 and 0 <= self.overlap <= max(self.tile - 1, 0)
        if not known or not fitting or (self.keeps_aspect and not self.longest_patches):
            raise ValueError(f"not a frame: {self!r}")

    @classmethod
    def squeezed(cls, image_size: int, patch_size: int) -> "Frame":
        """Squares of `image_size` pixels a side."""
        side = image_size // patch_size
        return cls("squeeze", (side, side), patch_size)

    @classmethod
    def of(
        cls,
        fit: str,
        sizes: Sequence[tuple[int, int]],
        image_size: int,
        patch_size: int,
        scale: float | None,
    ) -> "Frame":
        """The frame of a set of photos of these (width, height); without photos they are squeezed.

        `image_size` and `patch_size` are sides in pixels of the backbone's input. Tiled photos have a `scale`, a share
        of their original size (None: full size, up to `MAX_TILED_SIDE` pixels).
        """
        side = image_size // patch_size
        if fit == "squeeze" or not sizes:
            return cls.squeezed(image_size, patch_size)
        if fit == "pad":
            longest = max(1, round(side * median_low([max(size) / min(size) for size in sizes]) ** 0.5))
        else:
            median_side = median_low([max(size) for size in sizes])
            longest = max(1, round((median_side * scale if scale else min(median_side, MAX_TILED_SIDE)) / patch_size))
        patch_counts = [_patch_counts(size, longest) for size in sizes]
        grid = max(rows for rows, _ in patch_counts), max(columns for _, columns in patch_counts)
        if fit == "pad":
            return cls(fit, grid, patch_size, longest)
        return cls(fit, grid, patch_size, longest, side, min(round(TILE_OVERLAP * side), side - 1))

    def __str__(self) -> str:
        rows, columns = self.grid
        patches = f"{rows} x {columns} patches"
        if self.fit == "tile":
            tiles = f"{len(self.tiles())} overlapping tiles of {self.tile * self.patch_size} px"
            return f"{patches}, the longer side at {self.longest_patches * self.patch_size} px in {tiles}"
        if self.fit == "pad":
            return f"{patches}, its aspect ratio kept, the longer side at {self.longest_patches * self.patch_size} px"
        return f"{patches}, each photo resized to {self.size[0]} x {self.size[0]} px"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid in pixels of the backbone's input."""
        return self.grid[0] * self.patch_size, self.grid[1] * self.patch_size

    @property
    def keeps_aspect(self) -> bool:
        """Whether photos keep their aspect ratio."""
        return self.fit != "squeeze"

    def rect(self, width: int, height: int) -> PhotoRect:
        """The rectangle of a photo of this size in the grid."""
        rows, columns = self.grid
        if not self.keeps_aspect:
            return PhotoRect(0, 0, rows, columns)
        photo_rows, photo_columns = _patch_counts((width, height), self.longest_patches)
        if photo_rows > rows or photo_columns > columns:
            # a photo with an aspect ratio that the set does not have is reduced to fit the grid
            scale = min(rows / height, columns / width)
            photo_rows, photo_columns = (
                min(most, max(1, round(side * scale))) for most, side in ((rows, height), (columns, width))
            )
        return PhotoRect((rows - photo_rows) // 2, (columns - photo_columns) // 2, photo_rows, photo_columns)

    def covered(self, rects: Sequence[PhotoRect]) -> Bool[np.ndarray, "n p"]:
        """Patches of the grid that the photos cover."""
        covered = np.zeros((len(rects), *self.grid), bool)
        for own, rect in zip(covered, rects):
            rect.cut(own)[:] = True
        return covered.reshape(len(rects), self.grid[0] * self.grid[1])

    def tiles(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile, all of the same shape; without tiles the whole grid."""
        rows, columns = (_starts(count, self.tile or count, self.overlap) for count in self.grid)
        height, width = (min(self.tile or count, count) for count in self.grid)
        return [(slice(row, row + height), slice(column, column + width)) for row in rows for column in columns]

    def preprocess(
        self, image: Image.Image, resample: str, mean: Sequence[float], std: Sequence[float]
    ) -> Float[np.ndarray, "a b 3"]:
        """Resizes an RGB image with antialiasing, scales to [0, 1] and normalises; the border is 0, the mean colour.

        With `squeeze`, the result equals torchvision's Resize((s, s)), ToTensor and Normalize on a Pillow image, as
        used by MuSc and the processors of CLIP and DINOv2. `resample` is a key of `RESAMPLE`.
        """
        rect = self.rect(*full_size(image))
        size = rect.width * self.patch_size, rect.height * self.patch_size
        pixels = np.asarray(image.resize(size, RESAMPLE[resample]), np.float32)
        normalised = (pixels / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
        if (rect.height, rect.width) == self.grid:
            return normalised
        canvas = np.zeros((*self.size, 3), np.float32)
        top, left = rect.top * self.patch_size, rect.left * self.patch_size
        canvas[top : top + size[1], left : left + size[0]] = normalised
        return canvas


def _patch_counts(size: tuple[int, int], longest_patches: int) -> tuple[int, int]:
    """(rows, columns) of patches of a photo of (width, height)."""
    width, height = size
    scale = longest_patches / max(size)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _starts(patch_count: int, tile: int, overlap: int) -> list[int]:
    """Starts of the fewest evenly spaced tiles that cover all patches of a side with at least this overlap."""
    if patch_count <= tile:
        return [0]
    tile_count = -(-(patch_count - overlap) // (tile - overlap))
    return [round(i * (patch_count - tile) / (tile_count - 1)) for i in range(tile_count)]
