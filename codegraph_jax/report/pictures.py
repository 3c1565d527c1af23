"""The one pass over the image files: each is decoded once for its heat map, mask, thumbnail and crops."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from codegraph_jax.core.files import whole_file
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.images import full_size, load_image, source_of
from codegraph_jax.report.contact_sheet import TILE, crop
from codegraph_jax.report.heatmaps import Scale, dimmed, layer_png, overlay
from codegraph_jax.report.records import Record
from codegraph_jax.report.region_data import Region, describe_regions
from codegraph_jax.report.regions import flagged_regions, stretch
from codegraph_jax.scoring.threshold import Calibration

LARGEST, USUAL, SMALLEST = 1024, 512, 128
"""Sides in pixels of the pictures that a report carries; beyond the usual one none is larger than its photograph."""
PICTURE_BYTES = 32_000_000
"""What the pictures of a report may take together: a browser opens that at once, and mail still takes most of it."""
BYTES_PER_PIXEL = 0.3
"""Of a JPEG of a textured part at this quality, in base64."""
QUALITY = 75
HEATMAP_SIDE = 1600
"""Longest side of a heat map in pixels; smaller photographs keep their own size."""


@dataclass(frozen=True)
class Picture:
    """What the report shows of one image.

    Attributes:
        photograph: JPEG file.
        layer: PNG file of the anomaly map with transparency.
        width, height: of the photograph in pixels.
        image_width, image_height: of the image file, upright.
        tile: what it shares with others, for the contact sheet; None where it shares nothing.
        regions: what is flagged in it, the region of the greatest peak first.
    """

    photograph: bytes
    layer: bytes
    width: int
    height: int
    image_width: int
    image_height: int
    tile: Image.Image | None
    regions: list[Region]


def picture_side(images: int) -> int:
    """Longest side of the pictures in a report of so many images: as large as the budget allows."""
    side = (PICTURE_BYTES / BYTES_PER_PIXEL / max(images, 1)) ** 0.5
    return int(np.clip(side, SMALLEST, LARGEST)) // 16 * 16


def fit(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with the same aspect and the longer one `side`."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def find_regions(
    patch_scores: Float[np.ndarray, "h w"],
    background: float,
    calibration: Calibration,
    shows: Int[np.ndarray, "h w"],
    size: tuple[int, int],
    inspected: Bool[np.ndarray, "height width"] | None,
) -> tuple[Bool[np.ndarray, "height width"], list[Region]]:
    """What of a flagged photograph is flagged: as a mask, and region by region.

    Args:
        patch_scores: of what belongs to the photograph.
        background: usual score of the patches that are judged.
        calibration: gives the thresholds.
        shows: number of the recurring pattern that each patch shows; may be empty.
        size: width and height of the photograph in pixels.
        inspected: which pixels are; None: all.
    """
    levels = background, calibration.threshold, calibration.typical
    mask = flagged_regions(patch_scores, *levels, size, inspected)
    return mask, describe_regions(mask, stretch(patch_scores, *size), calibration, shows)


def make_pictures(
    records: Sequence[Record], workdir: Path, scale: Scale, workers: int, advance: Progress
) -> list[Picture]:
    """Writes heat maps and masks, and returns what the report and the contact sheets show, in the order of `records`.

    Args:
        records: all images of the run.
        workdir: where the files that the records name are written.
        scale: of the heat maps.
        workers: threads.
        advance: called with the number of images just done.
    """
    side = picture_side(len(records))

    def work(record: Record) -> Picture:
        return _make_picture(record, workdir, scale, side)

    pictures = []
    with ThreadPoolExecutor(workers) as pool:
        for picture in pool.map(work, records):
            pictures.append(picture)
            advance(1)
    return pictures


def _make_picture(record: Record, workdir: Path, scale: Scale, side: int) -> Picture:
    outcome, result, i = record.outcome, record.outcome.result, record.index
    image = load_image(source_of(outcome.samples[i]), result.value_range)
    own_width, own_height = full_size(image)
    longest = max(own_width, own_height)
    inspected = outcome.inspected[i](own_width, own_height) if outcome.inspected else None
    content = result.placement.content(i)
    patch_scores = content.cut(result.patch_scores[i])
    if record.heatmap:
        width, height = fit(own_width, own_height, min(longest, HEATMAP_SIDE))
        picture = overlay(image, scale.strength(stretch(patch_scores, width, height)))
        _save(dimmed(picture, inspected), workdir / record.heatmap, compress_level=1)
    regions: list[Region] = []
    if record.flagged:
        shows = result.consistency.shows
        mask, regions = find_regions(
            patch_scores,
            float(np.median(result.placement.of([i]).inspected_scores(result.patch_scores[[i]]))),
            result.calibration,
            content.cut(shows[i]) if len(shows) else shows,
            (own_width, own_height),
            inspected,
        )
        if record.mask:
            _save(Image.fromarray(mask.astype(np.uint8) * 255), workdir / record.mask, compress_level=6)
    width, height = fit(own_width, own_height, min(side, max(longest, USUAL)))
    photograph = io.BytesIO()
    small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    dimmed(small, inspected).save(photograph, "JPEG", quality=QUALITY)
    return Picture(
        photograph=photograph.getvalue(),
        layer=layer_png(scale.strength(patch_scores)),
        width=width,
        height=height,
        image_width=own_width,
        image_height=own_height,
        tile=crop(image, record.shared, TILE) if record.community else None,
        regions=regions,
    )


def _save(picture: Image.Image, path: Path, compress_level: int) -> None:
    with whole_file(path) as name:
        picture.save(name, "PNG", compress_level=compress_level)
