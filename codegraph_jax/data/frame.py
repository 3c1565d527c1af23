"""How the photographs of a set become grids of patches: squeezed to a square, kept in proportion, or cut into tiles.

`squeeze`: every photograph is resized to a square, whatever its aspect, as MuSc does.

`pad` and `tile` keep the aspect. One rule makes one grid for a set of mixed sizes: every photograph is scaled so that
its longer side has the same number of patches, each side rounded to whole patches, and lies in the middle of the least
grid that holds them all. With `pad` that number gives a photograph of the median aspect as many patches as the square
has. With `tile` it is a chosen share of the photographs' longer sides (of their median, where they differ), and the
grid is cut into overlapping tiles of the backbone's image size; what overlaps is blended (`features.tokens`).

What of a grid no photograph covers is border, always of whole patches: it is shown to the backbone as the mean colour,
and counts for nothing from there on.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from codegraph_jax.data.images import RESAMPLE, full_size

TILED = 2016
"""Pixels along the longer side of tiled photographs, at most, where no scale is given."""


@dataclass(frozen=True)
class Content:
    """Where a photograph lies in a grid, in patches: the first row and column, how many rows and columns."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, values: Float[np.ndarray, "... h w"]) -> Float[np.ndarray, "... a b"]:
        """What of the values of a grid belongs to the photograph."""
        return values[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Frame:
    """How every photograph of a set becomes a grid of patches.

    Attributes:
        fit: `squeeze`, `pad` or `tile`.
        grid: (h, w), of all photographs.
        patch: side of a patch in pixels, as the backbone sees it.
        longest: patches along the longer side of every photograph; `squeeze` does not ask for it.
        tile: patches along the side of a tile; the grid itself may be smaller. Without tiles 0.
        overlap: patches that neighbouring tiles share at least.
    """

    fit: str
    grid: tuple[int, int]
    patch: int
    longest: int = 0
    tile: int = 0
    overlap: int = 0

    @classmethod
    def squeezed(cls, image_size: int, patch: int) -> "Frame":
        """Squares of `image_size` pixels a side."""
        side = image_size // patch
        return cls("squeeze", (side, side), patch)

    @classmethod
    def of(
        cls, fit: str, sizes: Sequence[tuple[int, int]], image_size: int, patch: int, scale: float, overlap: float
    ) -> "Frame":
        """The frame of a set.

        Args:
            fit: `squeeze`, `pad` or `tile`.
            sizes: (width, height) of its photographs; at least one where the aspect is kept.
            image_size: side S of the backbone's square, in pixels.
            patch: side of a patch in pixels.
            scale: of tiled photographs, as a share of their own size; 0: all of it, up to `TILED` pixels.
            overlap: share of a tile that its neighbour shows too.
        """
        side = image_size // patch
        if fit == "squeeze" or not sizes:
            return cls.squeezed(image_size, patch)
        if fit == "pad":
            longest = max(1, round(side * _median([max(size) / min(size) for size in sizes]) ** 0.5))
        else:
            usual = _median([max(size) for size in sizes])
            longest = max(1, round((usual * scale if scale else min(usual, TILED)) / patch))
        cells = [_cells(size, longest) for size in sizes]
        grid = max(rows for rows, _ in cells), max(columns for _, columns in cells)
        if fit == "pad":
            return cls(fit, grid, patch, longest)
        return cls(fit, grid, patch, longest, side, min(round(overlap * side), side - 1))

    def __str__(self) -> str:
        rows, columns = self.grid
        patches = f"{rows} x {columns} patches"
        if self.fit == "tile":
            tiles = f"{len(self.tiles())} overlapping tiles of {self.tile * self.patch} px"
            return f"{patches}, the longer side at {self.longest * self.patch} px in {tiles}"
        if self.fit == "pad":
            return f"{patches}, the aspect kept, the longer side at {self.longest * self.patch} px"
        return f"{patches}, each photo resized to {self.size[0]} x {self.size[0]} px"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid in pixels, as the backbone sees it."""
        return self.grid[0] * self.patch, self.grid[1] * self.patch

    @property
    def keeps_aspect(self) -> bool:
        return self.fit != "squeeze"

    def content(self, width: int, height: int) -> Content:
        """Where a photograph of this size lies in the grid."""
        rows, columns = self.grid
        if not self.keeps_aspect:
            return Content(0, 0, rows, columns)
        own_rows, own_columns = _cells((width, height), self.longest)
        if own_rows > rows or own_columns > columns:
            # of another aspect than all that the set has: as large as fits
            fitting = min(rows / height, columns / width)
            own_rows, own_columns = (
                min(most, max(1, round(side * fitting))) for most, side in ((rows, height), (columns, width))
            )
        return Content((rows - own_rows) // 2, (columns - own_columns) // 2, own_rows, own_columns)

    def covered(self, contents: Sequence[Content]) -> Bool[np.ndarray, "n p"]:
        """Which patches of the grid the photographs cover."""
        covered = np.zeros((len(contents), *self.grid), bool)
        for own, content in zip(covered, contents):
            content.cut(own)[:] = True
        return covered.reshape(len(contents), -1)

    def tiles(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the grid in each tile, which are all of one shape; without tiles the whole grid."""
        rows, columns = (_starts(cells, self.tile or cells, self.overlap) for cells in self.grid)
        height, width = (min(self.tile or cells, cells) for cells in self.grid)
        return [(slice(row, row + height), slice(column, column + width)) for row in rows for column in columns]

    def place(
        self, image: Image.Image, resample: str, mean: Sequence[float], std: Sequence[float]
    ) -> Float[np.ndarray, "a b 3"]:
        """Resizes on 8-bit values with antialiasing, scales to [0, 1], normalises; the border is 0, the mean colour.

        Squeezed: the same numbers as torchvision's Resize((s, s)), ToTensor and Normalize on a Pillow image, which MuSc
        and the processors of CLIP and DINOv2 use.

        Args:
            image: RGB.
            resample: "bilinear" or "bicubic".
            mean: of each channel, in [0, 1].
            std: of each channel, in [0, 1].
        """
        content = self.content(*full_size(image))
        size = content.width * self.patch, content.height * self.patch
        pixels = np.asarray(image.resize(size, RESAMPLE[resample]), np.float32)
        normalised = (pixels / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
        if (content.height, content.width) == self.grid:
            return normalised
        canvas = np.zeros((*self.size, 3), np.float32)
        top, left = content.top * self.patch, content.left * self.patch
        canvas[top : top + size[1], left : left + size[0]] = normalised
        return canvas

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return asdict(self) | {"grid": list(self.grid)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Frame":
        """What `as_json` gave.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        rows, columns = (int(side) for side in values["grid"])
        patch, longest, tile, overlap = (int(values[name]) for name in ("patch", "longest", "tile", "overlap"))
        fit = str(values["fit"])
        known = fit in ("squeeze", "pad", "tile") and min(rows, columns, patch) > 0 and min(longest, tile) >= 0
        if not known or not 0 <= overlap <= max(tile - 1, 0) or (fit != "squeeze" and not longest):
            raise ValueError(f"no frame: {values}")
        return cls(fit, (rows, columns), patch, longest, tile, overlap)


LONG, LARGE, SLIGHTLY = 1.5, 3.0, 1.5
"""Aspect from which a square distorts too much, if a quarter of the photographs have it; sizes, in multiples of what
the backbone sees at once, from which tiling is tried and below which it gains too little (benchmarks/log/accuracy.md,
"Large photographs")."""
SMALLER = 0.8
"""How much smaller the next scale is that is tried."""


def choose_frame(
    sizes: Sequence[tuple[int, int]],
    image_size: int,
    patch: int,
    scale: float,
    overlap: float,
    affordable: Callable[[Frame], bool],
) -> tuple[Frame, str]:
    """The frame for photos of these sizes, and the reason for it in words; empty where a plain square suits.

    Args:
        sizes, image_size, patch, scale, overlap: as for `Frame.of`.
        affordable: whether a frame does not take too long.
    """

    def of(fit: str, scale: float = scale) -> Frame:
        return Frame.of(fit, sizes, image_size, patch, scale, overlap)

    if not sizes:
        return of("squeeze"), ""
    longest = _median([max(size) for size in sizes])
    aspect = sorted(max(size) / min(size) for size in sizes)[3 * len(sizes) // 4]
    large, dear = longest >= LARGE * image_size, ""
    if large:
        reason = f"the photos are {longest / image_size:.1f} times as large as the network's input"
        if scale and affordable(of("tile")):
            return of("tile"), reason
        side = float(min(longest, TILED))
        while side >= SLIGHTLY * image_size and not scale:
            frame = of("tile", side / longest)
            if affordable(frame):
                return frame, reason
            side *= SMALLER
        dear = "tiles would show smaller defects but take long for so many photos: --fit tile"
    if aspect >= LONG and affordable(of("pad")):
        reason = f"the photos are {aspect:.1f} times as long as they are wide"
        return of("pad"), f"{reason}; {dear}" if dear else reason
    return of("squeeze"), dear


def _median(values: Sequence[float]) -> float:
    """The lower median: one of the values, whatever their order."""
    return sorted(values)[(len(values) - 1) // 2]


def _cells(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(rows, columns) of patches of a photograph of (width, height)."""
    width, height = size
    scale = longest / max(size)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _starts(cells: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: as few as cover all cells with so much overlap, evenly spread."""
    if cells <= tile:
        return [0]
    count = -(-(cells - overlap) // (tile - overlap))
    return [round(i * (cells - tile) / (count - 1)) for i in range(count)]
