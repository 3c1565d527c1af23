"""Flagged regions as data for regions.json, regions.csv and coco.json.

Coordinates are pixels of the upright image (after its EXIF orientation), x to the right and y down; the origin is the
upper left corner of the first pixel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from codegraph_jax.core.files import write_csv, write_json
from codegraph_jax.scoring.regions import DIAGONAL, flagged_mask, rectangle_sides, stretch
from codegraph_jax.scoring.threshold import Calibration

COLUMNS = (
    "path", "category", "region", "left", "top", "right", "bottom", "area", "share", "region_length", "region_width",
    "area_mm2", "region_length_mm", "region_width_mm",
    "peak_score", "mean_score", "p_value", "group",
)  # fmt: skip
"""Columns of regions.csv."""


@dataclass(frozen=True)
class Region:
    """One connected flagged region of an image.

    Attributes:
        box: left, top, right, bottom; right and bottom are exclusive.
        polygon: outer edges, each a ring of (x, y) without repeating the first point; holes are filled.
        area: number of pixels.
        share: share of the image's pixels.
        length, width: longer and shorter side of the smallest rotated rectangle around the region, in pixels.
        peak_score, mean_score: greatest and mean value of the anomaly map in the region.
        p_value: share of normal images with such a peak.
        pattern: number of the pattern that most of its pixels show; None if they show none.
        run_lengths: COCO run lengths of a region with holes; None for a region without holes.
    """

    box: tuple[int, int, int, int]
    polygon: list[list[list[float]]]
    area: int
    share: float
    length: float
    width: float
    peak_score: float
    mean_score: float
    p_value: float
    pattern: int | None
    run_lengths: list[int] | None


def find_regions(
    patch_scores: Float[np.ndarray, "h w"],
    background: float,
    calibration: Calibration,
    pattern_numbers: Int[np.ndarray, "h w"],
    inspected: Bool[np.ndarray, "height width"],
) -> tuple[Bool[np.ndarray, "height width"], list[Region]]:
    """The flagged regions of a flagged photo: mask and list.

    Args:
        patch_scores: scores of the patches on the photo.
        background: median score of the inspected patches.
        calibration: thresholds.
        pattern_numbers: number of the recurring pattern that each patch shows; may be empty.
        inspected: mask of the inspected pixels of the photo.
    """
    mask = flagged_mask(patch_scores, background, calibration, inspected)
    height, width = inspected.shape
    return mask, describe_regions(mask, stretch(patch_scores, width, height), calibration, pattern_numbers)


def describe_regions(
    mask: Bool[np.ndarray, "a b"],
    scores: Float[np.ndarray, "a b"],
    calibration: Calibration,
    pattern_numbers: Int[np.ndarray, "h w"],
) -> list[Region]:
    """The connected regions of an image, the highest peak first.

    Args:
        mask: the flagged pixels.
        scores: the anomaly map of the same size.
        calibration: distribution of normal scores, for the p-values.
        pattern_numbers: number of the recurring pattern that each patch shows, 0 for none; may be empty.
    """
    labels, count = ndimage.label(mask, structure=DIAGONAL)
    regions = []
    for number, window in enumerate(ndimage.find_objects(labels, max_label=count), 1):
        inside = labels[window] == number
        values = scores[window][inside]
        rows, columns = window
        peak = float(values.max())
        polygon, holes = outline(inside, columns.start, rows.start)
        counts = run_lengths(labels == number) if holes else None
        length, width = rectangle_sides(inside)
        regions.append(
            Region(
                box=(columns.start, rows.start, columns.stop, rows.stop),
                polygon=polygon,
                area=int(inside.sum()),
                share=float(inside.sum() / mask.size),
                length=length,
                width=width,
                peak_score=peak,
                mean_score=float(values.mean()),
                p_value=float(calibration.normal_scores.p_values(np.array([peak]))[0]),
                pattern=_pattern_of(inside, rows.start, columns.start, mask.shape, pattern_numbers),
                run_lengths=counts,
            )
        )
    return sorted(regions, key=lambda region: -region.peak_score)


def outline(mask: Bool[np.ndarray, "a b"], left: int = 0, top: int = 0) -> tuple[list[list[list[float]]], bool]:
    """Outer rings of a mask in pixels, with corners cut by half a pixel, and whether it has holes."""
    padded = np.pad(mask.astype(np.float32), 1)
    filled: Any = contourpy.contour_generator(z=padded, fill_type="OuterOffset").filled(0.5, np.inf)
    rings = []
    for points, ends in zip(*filled):
        # pixel k has its centre at k + 0.5, and at k + 1 in the padded mask
        ring = _without_straight_points(points[: ends[1] - 1] + np.array([left - 0.5, top - 0.5]))
        rings.append([[float(x), float(y)] for x, y in ring])
    return rings, any(len(ends) > 2 for ends in filled[1])


def run_lengths(mask: Bool[np.ndarray, "a b"]) -> list[int]:
    """COCO's uncompressed run lengths: pixels column by column, starting with pixels outside the mask."""
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False))
    lengths: list[int] = np.diff([0, *changes, mask.size]).tolist()
    return lengths


def region_rows(
    path: str, category: str, size: tuple[int, int], regions: Sequence[Region], mm_per_pixel: float | None = None
) -> list[dict[str, Any]]:
    """Entries of regions.json for one image.

    Args:
        path: path of the image.
        category: its category.
        size: its width and height.
        regions: its regions.
        mm_per_pixel: width of a pixel in millimetres; None: unknown, sizes in millimetres are None.
    """

    def millimetres(pixels: float, power: int = 1) -> float | None:
        return float(f"{pixels * mm_per_pixel**power:.4g}") if mm_per_pixel else None

    return [
        {"path": path, "category": category, "width": size[0], "height": size[1]}
        | region_fields(number, region)
        | {
            "area_mm2": millimetres(region.area, 2),
            "region_length_mm": millimetres(region.length),
            "region_width_mm": millimetres(region.width),
        }
        for number, region in enumerate(regions, 1)
    ]


def region_fields(number: int, region: Region) -> dict[str, Any]:
    """The fields of a region in regions.json that the server of a line has too; `number` is that of the region."""
    return {
        "region": number,
        "box": list(region.box),
        "polygon": region.polygon,
        "area": region.area,
        "share": float(f"{region.share:.6g}"),
        "region_length": round(region.length, 1),
        "region_width": round(region.width, 1),
        "peak_score": round(region.peak_score, 6),
        "mean_score": round(region.mean_score, 6),
        "p_value": float(f"{region.p_value:.4g}"),
        "group": region.pattern,
    }


def write_regions(workdir: Path, rows: Sequence[dict[str, Any]], form: str = "plain") -> None:
    """Writes regions.json and regions.csv; `form` is one of `core.files.CSV_FORMS`."""
    write_json(workdir / "regions.json", rows)
    cells = ({**row, **dict(zip(("left", "top", "right", "bottom"), row["box"]))} for row in rows)
    write_csv(workdir / "regions.csv", cells, COLUMNS, form)


def coco(images: Iterable[tuple[str, tuple[int, int], Sequence[Region]]]) -> dict[str, Any]:
    """All regions as COCO instance annotations.

    Args:
        images: path, (width, height) and regions of every image, including images without regions.
    """
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (path, (width, height), regions) in enumerate(images, 1):
        listed.append({"id": image_id, "file_name": path, "width": width, "height": height})
        for region in regions:
            left, top, right, bottom = region.box
            segmentation: Any = [[value for point in ring for value in point] for ring in region.polygon]
            if region.run_lengths:
                segmentation = {"size": [height, width], "counts": region.run_lengths}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "segmentation": segmentation,
                    "area": region.area,
                    "iscrowd": 0,
                    "score": round(region.peak_score, 6),
                }
            )
    categories = [{"id": 1, "name": "anomaly"}]
    info = {"description": "flagged regions"}
    return {"info": info, "images": listed, "categories": categories, "annotations": annotations}


def _without_straight_points(ring: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "m 2"]:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def _pattern_of(
    inside: Bool[np.ndarray, "a b"],
    top: int,
    left: int,
    shape: tuple[int, ...],
    pattern_numbers: Int[np.ndarray, "h w"],
) -> int | None:
    """Number of the pattern that most pixels of a region show; None if they show none."""
    if not pattern_numbers.size:
        return None
    rows, columns = np.nonzero(inside)
    patches = pattern_numbers[
        (rows + top) * pattern_numbers.shape[0] // shape[0], (columns + left) * pattern_numbers.shape[1] // shape[1]
    ]
    numbers, counts = np.unique(patches[patches > 0], return_counts=True)
    return int(numbers[counts.argmax()]) if len(numbers) else None
