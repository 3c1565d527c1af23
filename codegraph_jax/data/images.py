"""Loads single images as upright 8-bit RGB."""

import io
import os
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool
from PIL import Image

from codegraph_jax.data.decoding import Decoded, UnreadableImageError, decode, from_header, upright_size
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange, have_data

RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
MIN_OPACITY, MIN_VISIBLE = 0.5, 0.005
"""An alpha channel makes at least this share of the pixels fully opaque or fully transparent, and shows at least this
share."""


def load_image(source: Sample | str | os.PathLike[str], value_range: ValueRange | None = None) -> Image.Image:
    """Decodes an image to 8-bit RGB, upright.

    - EXIF orientation is applied; a malformed EXIF block counts as none.
    - Grey is repeated over the channels; palettes are applied; CMYK and similar modes are converted without profiles.
    - Transparent areas become white, as in a browser. A fourth channel that hides everything, or is rarely fully opaque
      or fully transparent, is not opacity and is ignored.
    - Values of 16 bits, 32 bits and floats are converted by `value_range`. Pixels without data get the mean of the
      others, and `info["has_data"]` is a mask of the pixels with data, unless all have data.
    - Without a range, 16-bit values are divided by the greatest value of their bits; floats and signed or 32-bit
      integers are scaled by the extremes of the image, so that such images cannot be compared.
    - Animations and multi-page files give the first page, or the page of `FILE#NUMBER`; `info["pages"]` is the number
      of pages, and `info["full_size"]` (width, height) before any reduction.

    Args:
        source: a sample, or the path of a file.
        value_range: value range of the image's set, see `codegraph_jax.data.value_range`.

    Raises:
        UnreadableImageError: the file is missing, not a regular file, not an image, truncated, too large (see
            `allow_megapixels`) or without data, or the pixels have a wrong type or shape.
    """
    if isinstance(source, Sample) and source.read:
        return _from_reader(source.path, source.read, value_range)
    path = source.path if isinstance(source, Sample) else os.fspath(source)
    decoded = decode(path)
    rgb = _to_rgb(decoded, path, value_range)
    rgb.info |= {"full_size": decoded.full_size, "pages": decoded.page_count}
    return rgb


def preview(path: str | os.PathLike[str], side: int, value_range: ValueRange | None = None) -> bytes:
    """An image file as a JPEG whose longest side is at most `side` pixels; see `load_image`."""
    image = load_image(path, value_range)
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def full_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a loaded photo before any reduction."""
    size: tuple[int, int] = image.info.get("full_size", image.size)
    return size


def size_of(sample: Sample) -> tuple[int, int] | None:
    """Width and height of an upright image, for files from the header; None if it cannot be read."""
    if sample.is_file:
        return from_header(sample.path, upright_size, None)
    try:
        return load_image(sample).size
    except UnreadableImageError:
        return None


def _to_rgb(decoded: Decoded, name: str, value_range: ValueRange | None) -> Image.Image:
    image, has_data = decoded.image, None
    try:
        if decoded.values is not None:
            rgb, has_data = _to_8_bits(decoded, decoded.values, value_range)
            alpha = image.getchannel("A") if image.mode == "RGBA" else None
        elif image.has_transparency_data:
            rgb = image.convert("RGBA")
            alpha = rgb.getchannel("A")
        else:
            return image.convert("RGB")
        if alpha and _is_opacity(alpha):
            rgb.putalpha(alpha)
            rgb = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), rgb)
        rgb = rgb.convert("RGB")
        if has_data is not None and not has_data.all():
            rgb.info["has_data"] = has_data
        return rgb
    except UnreadableImageError as error:
        raise UnreadableImageError(name, error.reason) from None
    except Exception as error:  # damaged palettes or transparency raise many kinds of exceptions
        raise UnreadableImageError(name, f"mode {image.mode}: {error or type(error).__name__}") from None


def _is_opacity(alpha: Image.Image) -> bool:
    """Whether a fourth channel is opacity, see `MIN_OPACITY` and `MIN_VISIBLE`."""
    counts = np.array(alpha.histogram())
    visible = (counts * np.arange(256)).sum() / (255 * counts.sum())
    return bool(counts[0] + counts[255] >= MIN_OPACITY * counts.sum() and visible >= MIN_VISIBLE)


def _to_8_bits(
    decoded: Decoded, values: np.ndarray, value_range: ValueRange | None
) -> tuple[Image.Image, Bool[np.ndarray, "h w"]]:
    """8-bit RGB of values that do not have 8 bits, and a mask of the pixels with data."""
    no_data = (*(value_range.no_data if value_range else ()), *decoded.no_data)
    has_data = np.asarray(have_data(values, no_data).reshape(*values.shape[:2], -1).all(axis=-1))
    if not has_data.any():
        raise UnreadableImageError("image", "no pixel has data")
    pixels = (value_range or _own_range(decoded, values[has_data])).to_uint8(values)
    if not has_data.all():
        # the mean avoids strong edges around these pixels
        pixels[~has_data] = np.rint(pixels[has_data].mean(axis=0))
    return Image.fromarray(pixels).convert("RGB"), has_data


def _own_range(decoded: Decoded, values: np.ndarray) -> ValueRange:
    """The range of a single image: from its number of bits if known, otherwise from its extremes."""
    # some versions of Pillow widen PNG and PGM to "I", but their values are 16-bit unsigned; Pillow already scales PGM
    if values.dtype == np.uint16 or decoded.format in ("PNG", "PPM"):
        return ValueRange(0, 2**decoded.bits - 1)
    low, high = float(values.min()), float(values.max())
    return ValueRange(low, high if low < high else low + 1)


def _from_reader(
    name: str, read: Callable[[], np.ndarray | Image.Image], value_range: ValueRange | None
) -> Image.Image:
    try:
        image = read()
        if isinstance(image, Image.Image):
            return _to_rgb(Decoded.of(image), name, value_range)
        array = np.asarray(image)
        if array.dtype != np.uint8 or not array.size or not (array.ndim == 2 or array.shape[2:] in ((1,), (3,))):
            raise UnreadableImageError(
                name, f"expected uint8 [h, w, 3] or [h, w], got {array.dtype} {list(array.shape)}"
            )
        array = array[..., 0] if array.shape[2:] == (1,) else array
        return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    except UnreadableImageError:
        raise
    except Exception as error:  # formats and decoders of stored sets raise many kinds of exceptions
        raise UnreadableImageError(name, f"cannot be read: {error or type(error).__name__}") from None
