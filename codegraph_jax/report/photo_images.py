"""Makes heat maps, masks, thumbnails and crops; each image file is decoded once."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from codegraph_jax.core.files import whole_file
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.images import full_size, load_image
from codegraph_jax.report.contact_sheet import crop
from codegraph_jax.report.heatmaps import Scale, anomaly_png, dimmed, overlay
from codegraph_jax.report.records import Record
from codegraph_jax.report.region_data import Region, find_regions
from codegraph_jax.scoring.regions import background_of, stretch

MAX_SIDE, USUAL_SIDE, MIN_SIDE = 1024, 512, 128
"""Sides in pixels of the images in a report; photos are not enlarged beyond the usual side."""
MAX_IMAGE_BYTES = 32_000_000
"""Limit on the size of all images of a report, so that browsers open it quickly and it can be sent by mail."""
BYTES_PER_PIXEL = 0.3
"""Size per pixel of a JPEG file of a textured part at `QUALITY`, in base64."""
QUALITY = 75
HEATMAP_SIDE = 1600
"""Longest side of a heat map in pixels; smaller photos keep their own size."""


@dataclass(frozen=True)
class ReportPhoto:
    """A photo of the report: its record, images and regions.

    Attributes:
        record: scores, verdict and files.
        size: width and height of the image file in pixels, upright.
        thumbnail: JPEG file.
        thumbnail_size: its width and height in pixels.
        anomaly_png: PNG file of the anomaly map with transparency.
        crop: picture for the contact sheet; None if the photo shows no recurring pattern.
        regions: flagged regions, the highest peak first.
    """

    record: Record
    size: tuple[int, int]
    thumbnail: bytes
    thumbnail_size: tuple[int, int]
    anomaly_png: bytes
    crop: Image.Image | None
    regions: list[Region]


def image_side(photo_count: int) -> int:
    """Longest side of the images in a report of `photo_count` images, limited by `MAX_IMAGE_BYTES`."""
    side = (MAX_IMAGE_BYTES / BYTES_PER_PIXEL / max(photo_count, 1)) ** 0.5
    return int(np.clip(side, MIN_SIDE, MAX_SIDE)) // 16 * 16


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of an image after its longer side is resized to `side`."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def make_images(
    records: Sequence[Record], workdir: Path, scale: Scale, workers: int, advance: Progress
) -> list[ReportPhoto]:
    """Writes heat maps and masks, and returns the photos with the images for the report, in the order of `records`.

    Args:
        records: all images of the run.
        workdir: directory of the results.
        scale: scale of the heat maps.
        workers: number of threads.
        advance: called with the number of images just done.
    """
    make = partial(_make_photo, workdir=workdir, scale=scale, side=image_side(len(records)))
    photos = []
    with ThreadPoolExecutor(workers) as pool:
        for photo in pool.map(make, records):
            photos.append(photo)
            advance(1)
    return photos


def _make_photo(record: Record, workdir: Path, scale: Scale, side: int) -> ReportPhoto:
    outcome, result, i = record.outcome, record.outcome.result, record.index
    image = load_image(outcome.samples[i], result.value_range)
    size = full_size(image)
    inspected = outcome.areas[i](*size)
    rect = result.placement.rect(i)
    patch_scores = rect.cut(result.patch_scores[i])
    if record.heatmap:
        width, height = scaled_size(*size, min(max(size), HEATMAP_SIDE))
        heatmap = overlay(image, scale.strength(stretch(patch_scores, width, height)))
        _save(dimmed(heatmap, inspected), workdir / record.heatmap, compress_level=1)
    regions: list[Region] = []
    if record.flagged:
        pattern_numbers = result.recurring.pattern_numbers
        mask, regions = find_regions(
            patch_scores,
            background_of(result.patch_scores, result.placement, i),
            result.calibration,
            rect.cut(pattern_numbers[i]) if len(pattern_numbers) else pattern_numbers,
            inspected,
        )
        if record.mask:
            _save(Image.fromarray(mask.astype(np.uint8) * 255), workdir / record.mask, compress_level=6)
    thumbnail_size, thumbnail = scaled_size(*size, min(side, max(*size, USUAL_SIDE))), io.BytesIO()
    small = image.resize(thumbnail_size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    dimmed(small, inspected).save(thumbnail, "JPEG", quality=QUALITY)
    return ReportPhoto(
        record=record,
        size=size,
        thumbnail=thumbnail.getvalue(),
        thumbnail_size=thumbnail_size,
        anomaly_png=anomaly_png(scale.strength(patch_scores)),
        crop=crop(image, record.pattern_boxes) if record.group else None,
        regions=regions,
    )


def _save(image: Image.Image, path: Path, compress_level: int) -> None:
    with whole_file(path) as name:
        image.save(name, "PNG", compress_level=compress_level)
