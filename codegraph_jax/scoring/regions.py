"""Flagged regions of a photo, from its patch scores [ours]."""

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Bool, Float
from PIL import Image

from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import InspectedArea
from codegraph_jax.scoring.threshold import Calibration

PROMINENCE = 0.5
"""Share of a prominent peak's height above which no higher score may be connected to it."""
SPLIT = 2
"""Cells along each side of a patch, in the finer grid of the contours."""
RING = 2
"""Width in patches of the ring around a region for its contrast: the reach of the widest neighbourhood, 5 x 5."""
LEVEL_SHARES = np.linspace(0.7, 0.1, 19).tolist()
"""Levels at which a region may end, as shares of its peak's height; at higher levels a single patch would have the
greatest contrast."""
DIAGONAL = np.ones((3, 3), bool)
"""Structuring element by which patches that touch at a corner are connected."""


def stretch(patch_scores: Float[np.ndarray, "h w"], width: int, height: int) -> Float[np.ndarray, "height width"]:
    """Patch scores interpolated to pixels, with the score of each patch at its centre, for pictures and masks.

    The maps for metrics put the outer patches on the edges (align_corners) as MuSc does, half a patch further out.
    """
    picture = Image.fromarray(np.asarray(patch_scores, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def flagged_mask(
    patch_scores: Float[np.ndarray, "h w"],
    background: float,
    calibration: Calibration,
    inspected: Bool[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """Mask of the flagged pixels: a region around each prominent peak of the scores.

    A peak is prominent if no higher score is connected to it above `PROMINENCE` of its height over the background.
    Peaks below the threshold get no region, except the highest one, so that each flagged photo has a region. A region
    ends at the level whose contour has the greatest contrast: mean score inside minus mean score of the `RING` around
    it. No fixed level fits all defects: scores are raised in a whole tile around a small defect, and vary in a large
    one.

    Args:
        patch_scores: patch scores of one photo; 0 for patches that are not inspected.
        background: median score of its inspected patches.
        calibration: its threshold is the least height of a peak, its `score_of_1_in_2` the least level of a region
            unless the peak is lower.
        inspected: mask of the inspected pixels of the photo.
    """
    height, width = inspected.shape
    scores = np.where(patch_scores > 0, patch_scores, background).astype(np.float32)
    pixels = stretch(scores, width, height)
    fine = stretch(scores, SPLIT * scores.shape[1], SPLIT * scores.shape[0])
    mask, covered = np.zeros(pixels.shape, bool), np.zeros(scores.shape, bool)
    floor = calibration.score_of_1_in_2
    for row, column in _prominent_peaks(scores, background, calibration.threshold):
        if covered[row, column]:
            continue
        level, inside = _contour(scores, fine, background, floor, (row, column))
        covered |= _blocks(inside).any(axis=(1, 3))
        # interpolation to pixels moves the contour by less than one cell of the finer grid
        region = inspected & (pixels >= level) & _resized(scipy.ndimage.binary_dilation(inside, DIAGONAL), pixels.shape)
        if not region.any():
            region = inspected & _patch_pixels(scores.shape, row, column, pixels.shape)
        mask |= region
    return mask


def only_short_regions(
    patch_scores: Float[np.ndarray, "n h w"],
    flagged: Bool[np.ndarray, " n"],
    placement: Placement,
    calibration: Calibration,
    areas: Sequence[InspectedArea],
) -> Bool[np.ndarray, " n"]:
    """Mask of the flagged photos whose regions are all shorter than `calibration.min_defect_length` pixels [n].

    `areas` has the inspected area of each photo.
    """
    short = np.zeros(len(patch_scores), bool)
    for image in np.flatnonzero(flagged).tolist() if calibration.min_defect_length else ():
        background = background_of(patch_scores, placement, image)
        inspected = areas[image](*placement.sizes[image].tolist())
        scores = placement.rect(image).cut(patch_scores[image])
        mask = flagged_mask(scores, background, calibration, inspected)
        labels, count = scipy.ndimage.label(mask, DIAGONAL)
        windows = enumerate(scipy.ndimage.find_objects(labels, max_label=count), 1)
        short[image] = all(
            rectangle_sides(labels[window] == number)[0] < calibration.min_defect_length for number, window in windows
        )
    return short


def background_of(patch_scores: Float[np.ndarray, "n h w"], placement: Placement, image: int) -> float:
    """Median score of the inspected patches of a photo."""
    return float(np.median(placement.select([image]).inspected_scores(patch_scores[[image]])))


def rectangle_sides(mask: Bool[np.ndarray, "a b"]) -> tuple[float, float]:
    """Longer and shorter side of the rotated rectangle of least area around the pixels of a mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    # outer corners of the first and the last pixel of each row
    ends = np.stack([first, last, first, last], axis=1), np.stack([rows, rows, rows + 1, rows + 1], axis=1)
    points = np.stack(ends, axis=-1).reshape(-1, 2).astype(np.float64)
    corners = points[scipy.spatial.ConvexHull(points).vertices]
    # the smallest rectangle has a side on an edge of the convex hull
    edges = np.roll(corners, -1, axis=0) - corners
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    along, across = corners @ edges.T, corners @ np.stack([-edges[:, 1], edges[:, 0]])
    sides = np.stack([np.ptp(along, axis=0), np.ptp(across, axis=0)])
    short, long = np.sort(sides[:, sides.prod(axis=0).argmin()]).tolist()
    return long, short


def _prominent_peaks(scores: Float[np.ndarray, "h w"], background: float, threshold: float) -> list[tuple[int, int]]:
    """Rows and columns of the prominent peaks, the highest first."""
    highest = scores.max()
    summits = (scores == scipy.ndimage.maximum_filter(scores, 3, mode="nearest")) & (scores >= min(threshold, highest))
    candidates = np.argwhere(summits & ((scores > background) | (scores == highest)))
    peaks = []
    for row, column in sorted(map(tuple, candidates.tolist()), key=lambda peak: -scores[peak]):
        peak = scores[row, column]
        connected = _connected(scores, background + PROMINENCE * (peak - background), row, column)
        if scores[connected].max() <= peak:
            peaks.append((row, column))
    return peaks


def _contour(
    scores: Float[np.ndarray, "h w"],
    fine: Float[np.ndarray, "a b"],
    background: float,
    floor: float,
    peak: tuple[int, int],
) -> tuple[float, Bool[np.ndarray, "a b"]]:
    """Level at which the region of a peak ends, and its cells in the finer grid."""
    rows, columns = (slice(SPLIT * patch, SPLIT * (patch + 1)) for patch in peak)
    highest = int(fine[rows, columns].argmax())
    row, column = rows.start + highest // SPLIT, columns.start + highest % SPLIT
    top = float(fine[row, column])
    floor = min(floor, top)
    level, inside, best = top, _connected(fine, top, row, column), -np.inf
    for share in LEVEL_SHARES:
        lower = max(min(float(background + share * (scores[peak] - background)), top), floor)
        wider = _connected(fine, lower, row, column)
        if scores[_blocks(wider).any(axis=(1, 3))].max() > scores[peak]:
            break
        ring = scipy.ndimage.binary_dilation(wider, DIAGONAL, iterations=RING * SPLIT) & ~wider
        contrast = fine[wider].mean() - fine[ring].mean() if ring.any() else -np.inf
        if contrast > best:
            level, inside, best = lower, wider, contrast
        if lower <= floor:
            break
    return level, inside


def _connected(values: Float[np.ndarray, "a b"], level: float, row: int, column: int) -> Bool[np.ndarray, "a b"]:
    """Mask of the component of values from `level` on that contains a position."""
    labels, _ = scipy.ndimage.label(values >= level, structure=DIAGONAL)
    return labels == labels[row, column]


def _blocks(fine: Bool[np.ndarray, "a b"]) -> Bool[np.ndarray, "h f w f"]:
    """Cells of the finer grid, grouped by patch."""
    return fine.reshape(fine.shape[0] // SPLIT, SPLIT, fine.shape[1] // SPLIT, SPLIT)


def _resized(mask: Bool[np.ndarray, "a b"], shape: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
    """A mask resized by nearest neighbours."""
    rows, columns = (((2 * np.arange(n) + 1) * cells) // (2 * n) for n, cells in zip(shape, mask.shape))
    return mask[np.ix_(rows, columns)]


def _patch_pixels(
    grid: tuple[int, ...], row: int, column: int, shape: tuple[int, ...]
) -> Bool[np.ndarray, "height width"]:
    """The pixels that a patch covers, at least one."""
    mask = np.zeros(shape, bool)
    (top, bottom), (left, right) = (
        (patch * pixels // cells, -(-(patch + 1) * pixels // cells))
        for patch, pixels, cells in zip((row, column), shape, grid)
    )
    mask[top:bottom, left:right] = True
    return mask
