"""Measures the value range of a set, and finds photos with pixels that have no data."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePath

from PIL import Image

from codegraph_jax.core.environment import decoding_threads
from codegraph_jax.data.decoding import (
    Decoded,
    UnreadableImageError,
    declared_no_data,
    decode,
    from_header,
    has_high_bit_depth,
    page_of,
)
from codegraph_jax.data.samples import InMemory, Sample
from codegraph_jax.data.value_range import Summary, ValueRange, range_of

EIGHT_BIT_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif", ".webp", ".avif", ".heic", ".heif", ".hif"}
)
"""Formats that always decode to 8 bits, so that their files need not be opened."""


def summaries(images: Sequence[Sample], no_data: tuple[float, ...] = ()) -> dict[int, Summary]:
    """Summaries of the photos whose pixel values do not have 8 bits, by index.

    Only such files are decoded; unreadable files are ignored. `no_data` as `config.data.no_data`.
    """
    with ThreadPoolExecutor(decoding_threads(), "measure") as pool:
        by_image = list(pool.map(partial(_summary_of, no_data=no_data), images))
    return {i: summary for i, summary in enumerate(by_image) if summary is not None}


def measured_range(images: Sequence[Sample], no_data: tuple[float, ...] = ()) -> ValueRange | None:
    """The value range of a set; None if all pixel values have 8 bits."""
    return range_of(list(summaries(images, no_data).values()), no_data)


def _summary_of(sample: Sample, no_data: tuple[float, ...]) -> Summary | None:
    image = _in_memory(sample)
    if image is not None:
        decoded = Decoded.of(image)
    elif (
        not sample.is_file
        or PurePath(page_of(sample.path)[0]).suffix.lower() in EIGHT_BIT_SUFFIXES
        or not from_header(sample.path, has_high_bit_depth, False)
    ):
        return None
    else:
        try:
            decoded = decode(sample.path)
        except UnreadableImageError:
            return None
    return None if decoded.values is None else Summary.of(decoded.values, (*no_data, *decoded.no_data))


def may_lack_data(sample: Sample, value_range: ValueRange | None) -> bool:
    """Whether a photo may have pixels without data, by its header: floats, 32-bit integers, or a no-data value."""
    of_integers = bool(value_range and any(value >= 0 for value in value_range.no_data))
    may_have_gaps = partial(_may_have_gaps, of_integers=of_integers)
    if sample.is_file:
        return from_header(sample.path, may_have_gaps, False)
    image = _in_memory(sample)
    return image is not None and may_have_gaps(image)


def _in_memory(sample: Sample) -> Image.Image | None:
    """The Pillow image in memory of which a sample was made; stored sets are not read to find out."""
    image = sample.read.image if isinstance(sample.read, InMemory) else None
    return image if isinstance(image, Image.Image) else None


def _may_have_gaps(image: Image.Image, of_integers: bool) -> bool:
    """Whether an undecoded image may lack data; `of_integers`: an unsigned integer may mean "no data"."""
    declared = "has_data" in image.info or bool(declared_no_data(image))
    return declared or image.mode in ("I", "F") or (of_integers and has_high_bit_depth(image))
