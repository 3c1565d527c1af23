"""The task `plates`: detects small defects in drawn photos of large drilled plates of brushed metal, or of woven cloth.

Plates differ by a shift of a few pixels, as parts in a fixture do, by their light and by their grain. Pieces of cloth
have no position: each photo shows another piece. The defects are too small to be visible after resizing to a square.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from codegraph_jax.config import Config
from codegraph_jax.core.files import write_json
from codegraph_jax.core.json_fields import plain
from codegraph_jax.core.settings import Settings, at_least, choice, no_flag, within
from codegraph_jax.core.workdir import written_to
from codegraph_jax.data.synthetic import DrawnPhoto, DrawnSetError, write_set
from codegraph_jax.tasks import detect

Grid = Float[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]

_METAL = np.array([0.58, 0.59, 0.61], np.float32)
_PRINT = np.array([0.20, 0.22, 0.28], np.float32)
_CLOTH = np.array([0.62, 0.54, 0.44], np.float32)
_THREAD_PIXELS = 14.0
"""Distance between threads of cloth in pixels."""
_DEPTH = np.float32(0.12)
"""Brightness of the background in a hole."""
_PITCH_SHARE = 0.22
"""Distance between holes as a share of the plate's shorter side."""
MIN_SIDE, TRIES = 64, 1000
"""Least side of a plate in pixels, and how often a random place for its defect is tried."""
DRAWN = ".plates.json"
"""File of the settings with which the plates were drawn."""
SHIFT_PIXELS = 12.0
"""Standard deviation of the plate's position in pixels, for a photo with a shorter side of 3000 pixels."""


@dataclass(frozen=True)
class PlatesStudyConfig(Settings):
    """A drawn set of plates, and the settings of its detection."""

    task: str = field(default="plates", metadata=choice("plates"))
    """The task that this config is for."""
    surface: str = field(default="plate", metadata=choice("plate", "cloth"))
    """Objects that are drawn: drilled plates, which all have the same position, or woven cloth, which has none."""
    image_count: int = field(default=60, metadata=at_least(2))
    """The number of photos."""
    width: int = field(default=4000, metadata=at_least(MIN_SIDE))
    """The width of the photos in pixels."""
    height: int = field(default=3000, metadata=at_least(MIN_SIDE))
    """The height of the photos in pixels."""
    defective_share: float = field(default=0.3, metadata=within(0.0, 1.0))
    """The share of photos with a defect."""
    defect_pixels: tuple[float, float] = field(default=(24.0, 60.0), metadata=no_flag() | at_least(2))
    """The smallest and the largest size of a defect in pixels."""
    detect: Config = field(default_factory=Config)
    """The settings of detection, such as the backbone."""


def run(config: PlatesStudyConfig, workdir: str) -> None:
    """Draws the plates into `images` below the workdir, and detects their defects.

    Raises:
        DrawnSetError: there is a folder of the same name that this study has not drawn.
    """
    root, note = Path(workdir) / "images", Path(workdir) / "images" / DRAWN
    drawn = plain({name: value for name, value in asdict(config).items() if name != "detect"})
    # an interrupted run resumes only with the same files
    if not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != drawn:
        plates = draw_plates(
            config.image_count,
            config.width,
            config.height,
            defective_share=config.defective_share,
            defect_pixels=config.defect_pixels,
            surface=config.surface,
        )
        if (root / "plate").exists() and not note.is_file():
            raise DrawnSetError(f"{root / 'plate'}: exists and is not a drawn set; choose another --out")
        with written_to(root):
            write_json(note, None)
            shutil.rmtree(root / "plate", ignore_errors=True)
            write_set(plates, root / "plate")
            write_json(note, drawn)
    data = replace(config.detect.data, layout="mvtec", root=str(root))
    detect.run(replace(config.detect, data=data), workdir)


@dataclass(frozen=True)
class PlateDefect:
    """One small defect.

    Attributes:
        kind: key of `PLATE_DEFECTS`.
        x, y: centre in pixels.
        size: extent in pixels.
        shape: seed of the outline.
    """

    kind: str
    x: float
    y: float
    size: float
    shape: int


def plate_holes(width: int, height: int) -> list[tuple[float, float, float]]:
    """(x, y, radius) of the holes of a plate that fills a photo of this size, in pixels."""
    pitch = _PITCH_SHARE * min(width, height)
    # with an odd number of rows, the print is not on a row of holes; a long plate has one row
    columns = max(1, int(width / pitch) - 1)
    rows = 1 if max(width, height) > 2 * min(width, height) else max(1, (int(height / pitch) - 2) // 2 * 2 + 1)
    x, y = ((np.arange(n) - (n - 1) / 2) * pitch + side / 2 for n, side in ((columns, width), (rows, height)))
    # every third hole is large
    places = ((i, j) for i in range(rows) for j in range(columns))
    return [(float(x[j]), float(y[i]), pitch * (0.16 if (i + 2 * j) % 3 else 0.26)) for i, j in places]


def draw_plates(
    count: int,
    width: int,
    height: int,
    seed: int = 0,
    defective_share: float = 0.3,
    defect_pixels: tuple[float, float] = (24, 60),
    surface: str = "plate",
) -> Iterator[DrawnPhoto]:
    """Yields photos of plates or cloth: (name, photo, mask).

    Names are as in a test directory of MVTec's form, `good/000.jpg` or `pit/004.jpg`.

    Args:
        count: number of photos.
        width: width in pixels.
        height: height in pixels.
        seed: seed of the random numbers.
        defective_share: share of photos with one defect; the kinds alternate.
        defect_pixels: smallest and largest size of a defect; the sizes are evenly spaced.
        surface: `plate` or `cloth`.

    Raises:
        DrawnSetError: sides below 64 pixels, no plates, or defects that do not fit on the plate.
    """
    if count < 1 or min(width, height) < MIN_SIDE:
        raise DrawnSetError(f"plates need 1 photo or more, of {MIN_SIDE} px or more; got {count} of {width}x{height}")
    if not 0 < defect_pixels[0] <= defect_pixels[1] < min(width, height) / 4:
        raise DrawnSetError(
            "defect_pixels: expected the smallest and the largest size of a defect, below a quarter of the plate; got "
            f"{defect_pixels}"
        )
    defect_count = round(count * defective_share)
    order = np.random.default_rng((seed, 0)).permutation(count)
    kinds, extents = list(PLATE_DEFECTS), np.linspace(*defect_pixels, max(defect_count, 1))
    # mix kinds and sizes
    extents = extents[np.random.default_rng((seed, 1)).permutation(len(extents))]
    chosen = {int(image): (kinds[k % len(kinds)], float(extents[k])) for k, image in enumerate(order[:defect_count])}
    for i in range(count):
        rng = np.random.default_rng((seed, 2, i))
        defects = []
        if i in chosen:
            kind, extent = chosen[i]
            holes = plate_holes(width, height) if surface == "plate" else []
            place = _plate_place(extent, width, height, holes, rng)
            defects.append(PlateDefect(kind, *place, extent, int(rng.integers(2**31))))
        image, mask = draw_plate(width, height, defects, rng, surface)
        yield f"{chosen[i][0] if i in chosen else 'good'}/{i:03d}.jpg", image, mask


def _plate_place(
    extent: float, width: int, height: int, holes: list[tuple[float, float, float]], rng: np.random.Generator
) -> tuple[float, float]:
    """A random place on the plate away from holes (x, y, radius)."""
    for _ in range(TRIES):
        x, y = (float(rng.uniform(0.6 * extent, side - 0.6 * extent)) for side in (width, height))
        if all(np.hypot(hole_x - x, hole_y - y) > 1.3 * radius + 0.7 * extent for hole_x, hole_y, radius in holes):
            return x, y
    raise DrawnSetError(f"a defect of {extent:.0f} px does not fit between the holes of a plate of {width}x{height}")


def draw_plate(
    width: int, height: int, defects: list[PlateDefect], rng: np.random.Generator, surface: str = "plate"
) -> tuple[UInt8[np.ndarray, "h w 3"], Mask]:
    """A photo of a plate or of cloth, and the mask of its defects.

    Args:
        width: width of the photo in pixels.
        height: height of the photo in pixels.
        defects: defects of the plate.
        rng: random numbers.
        surface: `plate` or `cloth`.
    """
    shift_x, shift_y = rng.normal(0, SHIFT_PIXELS * min(width, height) / 3000, 2)
    ink, hole, edge = (np.zeros((height, width), np.float32) for _ in range(3))
    if surface == "plate":
        material, shade = _METAL, _grain(width, height, rng)
        _print(ink, width, height, shift_x, shift_y)
        for x, y, radius in plate_holes(width, height):
            _drill(hole, edge, x + shift_x, y + shift_y, radius)
        # the bevels of holes are brighter on one side
        shade += edge
    else:
        material, shade = _CLOTH, _weave(width, height, rng)
    tint = np.zeros((height, width, 3), np.float32)
    mask = np.zeros((height, width), bool)
    for defect in defects:
        PLATE_DEFECTS[defect.kind](shade, tint, mask, defect)
    colour = (shade * (1 - hole) + _DEPTH * hole)[..., None] * (
        material + (_PRINT - material) * (np.float32(0.8) * ink)[..., None] + tint
    )
    colour *= _lamp(width, height, rng)[..., None]
    picture = np.float32(1.35) * colour
    picture += rng.standard_normal(picture.shape[:2], np.float32)[..., None] * np.float32(0.008)
    return np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8), mask


def _grain(width: int, height: int, rng: np.random.Generator) -> Grid:
    """Brushed metal: streaks along x, and smooth noise."""
    streaks = scipy.ndimage.uniform_filter1d(rng.standard_normal((height, width), np.float32), 61, axis=1)
    streaks += scipy.ndimage.uniform_filter1d(streaks, 401, axis=1) * 3
    return 1 + np.float32(0.16) * streaks + _clouds(width, height, 7, rng) * np.float32(0.015)


def _weave(width: int, height: int, rng: np.random.Generator) -> Grid:
    """Plain weave: threads along x and y that alternate on top, in another place and slightly bent in each photo."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (
        np.float32(np.pi / _THREAD_PIXELS) * (axis + np.float32(2.5) * _clouds(width, height, 9, rng)) + offset
        for axis, offset in zip((x, y), rng.uniform(0, 2 * np.pi, 2).astype(np.float32))
    )
    over = np.sign(np.sin(x) * np.sin(y))  # whether the thread along x or the one along y is on top
    threads = np.where(over > 0, np.abs(np.sin(y)), np.abs(np.sin(x)))
    return (
        np.float32(0.72)
        + np.float32(0.4) * threads.astype(np.float32)
        + _clouds(width, height, 60, rng) * np.float32(0.02)
    )


def _clouds(width: int, height: int, cells: int, rng: np.random.Generator) -> Grid:
    knots = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(knots.resize((width, height), Image.Resampling.BICUBIC))


def _lamp(width: int, height: int, rng: np.random.Generator) -> Grid:
    """Brightness that falls off from a corner."""
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    tilt_x, tilt_y = np.float32(rng.normal(0.06, 0.02)), np.float32(rng.normal(0.05, 0.02))
    return np.float32(rng.normal(1, 0.03)) * (1 - tilt_x * x[None, :] - tilt_y * y[:, None])


def _print(ink: Grid, width: int, height: int, shift_x: float, shift_y: float) -> None:
    """Two printed lines and a row of bars, as on a label."""
    pitch = _PITCH_SHARE * min(width, height)
    thick = 0.03 * pitch
    centre, bar = height / 2 + shift_y, 0.05 * pitch
    for y in (centre - pitch / 2, centre + pitch / 2):
        ink[int(y - thick) : int(y + thick)] = 1
    top = centre - 0.42 * pitch
    for k in range(int(0.4 * width / (2 * bar))):
        if (k * 7) % 5 < 3:
            x = 0.3 * width + 2 * k * bar + shift_x
            ink[int(top) : int(top + 0.13 * pitch), int(x) : int(x + bar)] = 1


def _window(shape: tuple[int, int], x: float, y: float, reach: float) -> tuple[tuple[slice, slice], Grid, Grid]:
    """The pixels around (x, y), and their coordinates relative to it."""
    low = [max(0, int(c - reach)) for c in (y, x)]
    high = [max(0, min(side, int(c + reach) + 1)) for c, side in zip((y, x), shape)]
    window = slice(low[0], high[0]), slice(low[1], high[1])
    dy, dx = np.mgrid[window].astype(np.float32)
    return window, dx - np.float32(x), dy - np.float32(y)


def _drill(hole: Grid, edge: Grid, x: float, y: float, radius: float) -> None:
    window, dx, dy = _window(hole.shape, x, y, 1.3 * radius)
    away = np.hypot(dx, dy)
    hole[window] = np.maximum(hole[window], np.clip(radius - away + np.float32(0.5), 0, 1))
    bevel = np.exp(-(((away - np.float32(1.06 * radius)) / np.float32(0.05 * radius)) ** 2))
    edge[window] += np.float32(0.22) * bevel * (dx + dy) / np.maximum(away, 1)


def _pit(shade: Grid, tint: np.ndarray, mask: Mask, defect: PlateDefect) -> None:
    """A dark, irregular hollow with a bright rim."""
    rng, radius = np.random.default_rng(defect.shape), defect.size / 2
    window, dx, dy = _window(mask.shape, defect.x, defect.y, 1.6 * radius + 4)
    distance = _blob(rng, dx, dy, radius)
    inside = np.clip(0.5 - distance / 2, 0, 1)
    rim = np.exp(-((distance / np.float32(0.12 * radius + 1)) ** 2))
    shade[window] *= 1 - np.float32(rng.uniform(0.3, 0.5)) * inside
    shade[window] += np.float32(0.12) * rim
    mask[window] |= distance < 0


def _stain(shade: Grid, tint: np.ndarray, mask: Mask, defect: PlateDefect) -> None:
    """A coloured patch with a soft edge: rust or dried oil."""
    rng, radius = np.random.default_rng(defect.shape), defect.size / 2
    window, dx, dy = _window(mask.shape, defect.x, defect.y, 1.6 * radius + 4)
    distance = _blob(rng, dx, dy, radius)
    cover = np.clip(0.5 - distance / np.float32(0.25 * radius), 0, 1)
    hue = np.array(rng.choice([(-0.02, -0.12, -0.22), (-0.18, -0.16, -0.08), (-0.10, -0.16, -0.20)]), np.float32)
    tint[window] += cover[..., None] * hue
    mask[window] |= distance < 0


def _scratch(shade: Grid, tint: np.ndarray, mask: Mask, defect: PlateDefect) -> None:
    """A bright groove across the grain, straight or slightly bent."""
    rng, half = np.random.default_rng(defect.shape), defect.size / 2
    turn = rng.uniform(np.pi / 5, 4 * np.pi / 5)
    window, dx, dy = _window(mask.shape, defect.x, defect.y, half + 4)
    along = dx * np.float32(np.cos(turn)) + dy * np.float32(np.sin(turn))
    across = dy * np.float32(np.cos(turn)) - dx * np.float32(np.sin(turn))
    across = across + np.float32(rng.normal(0, 0.08)) * (along**2 / np.float32(half) - np.float32(half) / 2)
    wide = np.float32(max(1.5, 0.05 * defect.size))
    fade = np.clip((half - np.abs(along)) / np.float32(2), 0, 1)
    profile = np.exp(-((across / wide) ** 2)) * fade
    shade[window] += np.float32(rng.uniform(0.3, 0.5)) * profile
    mask[window] |= (np.abs(across) < 1.4 * wide) & (np.abs(along) < half)


def _fibre(shade: Grid, tint: np.ndarray, mask: Mask, defect: PlateDefect) -> None:
    """A dark curled thread."""
    rng, half = np.random.default_rng(defect.shape), defect.size / 2
    window, dx, dy = _window(mask.shape, defect.x, defect.y, half + 4)
    steps = 40
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, steps))
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
    path -= path.mean(axis=0)
    path *= (half - 2) / np.abs(path).max()
    distance = np.min([np.hypot(dx - np.float32(px), dy - np.float32(py)) for px, py in path], axis=0)
    wide = np.float32(max(1.8, 0.045 * defect.size))
    cover = np.clip(wide + np.float32(0.5) - distance, 0, 1)
    shade[window] *= 1 - np.float32(0.6) * cover
    mask[window] |= distance < wide


def _blob(rng: np.random.Generator, dx: Grid, dy: Grid, radius: float) -> Grid:
    """Approximate signed distance to an irregular outline."""
    angle = np.arctan2(dy, dx)
    outline = np.ones_like(angle)
    for k in range(2, 6):
        outline += np.float32(0.22 * rng.normal() / k) * np.cos(k * angle + np.float32(rng.uniform(0, 6.3)))
    return np.hypot(dx, dy) - np.float32(radius) * np.clip(outline, 0.5, 1.25)


PLATE_DEFECTS: dict[str, Callable[[Grid, np.ndarray, Mask, PlateDefect], None]] = {
    "pit": _pit,
    "scratch": _scratch,
    "stain": _stain,
    "fibre": _fibre,
}
"""Kinds of defects by name."""
