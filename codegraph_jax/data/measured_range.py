"""Measures the value range of a set, and finds photos with pixels that have no data."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

from PIL import Image

from codegraph_jax.data.images import (
    Source,
    UnreadableImageError,
    declared_no_data,
    decode,
    deep_samples,
    from_header,
    is_deep,
    page_of,
)
from codegraph_jax.data.value_range import Summary, ValueRange, range_of

SHALLOW_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif", ".webp", ".avif", ".heic", ".heif", ".hif"}
)
"""Formats that always decode to 8 bits, so that their files need not be opened."""


def summaries(sources: Sequence[Source], workers: int) -> dict[int, Summary]:
    """Summaries of the photos whose samples do not have 8 bits, by index.

    Only such files are decoded; unreadable files are ignored.
    """
    with ThreadPoolExecutor(workers, "measure") as pool:
        found = list(pool.map(_summary_of, sources))
    return {i: summary for i, summary in enumerate(found) if summary is not None}


def measured_range(sources: Sequence[Source], workers: int) -> ValueRange | None:
    """The value range of a set; None if all samples have 8 bits."""
    return range_of(list(summaries(sources, workers).values()))


def _summary_of(source: Source) -> Summary | None:
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if PurePath(page_of(path)[0]).suffix.lower() in SHALLOW_SUFFIXES or not from_header(path, is_deep, False):
            return None
        try:
            source = decode(path)
        except UnreadableImageError:
            return None
    if not isinstance(source, Image.Image) or not is_deep(source):
        return None
    samples = deep_samples(source)
    return None if samples is None else Summary.of(samples, declared_no_data(source))


def may_lack_data(source: Source) -> bool:
    """Whether a photo may have pixels without data, by its header: floats, 32-bit integers, or a no-data value."""
    if isinstance(source, str | os.PathLike):
        return from_header(source, _may_have_gaps, False)
    return isinstance(source, Image.Image) and _may_have_gaps(source)


def _may_have_gaps(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or "has_data" in image.info or bool(declared_no_data(image))
