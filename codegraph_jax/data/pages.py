"""Selects the pages (TIFF, MPO) or frames (GIF, PNG, WebP) of image files that are inspected."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from codegraph_jax.core.environment import decoding_threads
from codegraph_jax.data.decoding import from_header, pages_in
from codegraph_jax.data.samples import Sample

logger = logging.getLogger(__name__)

Size = tuple[int, int]


def with_pages(category: str, samples: Sequence[Sample], pages: str) -> list[Sample]:
    """The samples of a category, one for each file, with the selected pages of their files.

    Page k of `tray.tif` is `tray.tif#k`, counted from 1: the `first`, `each` as a separate sample, or the `largest`
    (with the most pixels). A warning counts the pages that are not inspected.
    """
    with ThreadPoolExecutor(decoding_threads(), "pages") as pool:
        sizes = list(pool.map(_page_sizes, samples))
    several = [page_sizes for page_sizes in sizes if len(page_sizes) > 1]
    if not several:
        return list(samples)
    total = sum(map(len, several))
    if pages == "each":
        logger.warning("%s: %d files hold %d pages; each page is inspected as a photo", category, len(several), total)
        return [page for sample, page_sizes in zip(samples, sizes) for page in _each(sample, len(page_sizes))]
    chosen = [_largest(page_sizes) if pages == "largest" else 0 for page_sizes in sizes]
    logger.warning(
        "%s: %d files hold several pages, %d in all; only the %s page of each file is inspected, %d pages are not "
        "(--config.data.pages=each inspects each page as a photo%s)",
        category, len(several), total, pages, total - len(several),
        "" if pages == "largest" else ", largest the largest page",
    )  # fmt: skip
    return [
        replace(
            sample,
            path=f"{sample.path}#{page + 1}" if page else sample.path,
            skipped_page_count=max(0, len(page_sizes) - 1),
        )
        for sample, page_sizes, page in zip(samples, sizes, chosen)
    ]


def _each(sample: Sample, count: int) -> list[Sample]:
    """A sample for each page of a file."""
    if count < 2:
        return [sample]
    masks = _page_sizes(replace(sample, path=sample.mask)) if isinstance(sample.mask, str) else []
    return [
        replace(
            sample,
            path=f"{sample.path}#{page}",
            name=f"{sample.name}#{page}",
            mask=f"{sample.mask}#{page}" if 1 < len(masks) == count else sample.mask,
        )
        for page in range(1, count + 1)
    ]


def _largest(sizes: Sequence[Size]) -> int:
    """Index of the first page with the most pixels."""
    return max(range(len(sizes)), key=lambda page: math.prod(sizes[page]), default=0)


def _page_sizes(sample: Sample) -> list[Size]:
    """(width, height) of each page of a file; empty if it cannot be opened, which decoding will report."""
    # a path with the number of a page, such as x.tif#2, names a single page
    if sample.read or not Path(sample.path).is_file():
        return []
    return from_header(sample.path, _sizes_in, [])


def _sizes_in(image: Image.Image) -> list[Size]:
    """(width, height) of each page of an open file."""
    sizes = [image.size]
    count = pages_in(image)
    # all frames of an animation have its size
    if count > 1 and image.format not in ("TIFF", "MPO", "HEIF"):
        return sizes * count
    for page in range(1, count):
        image.seek(page)
        sizes.append(image.size)
    return sizes
