"""Decodes single images to upright 8-bit RGB."""

import io
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from jaxtyping import Bool
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.formats import formats_of, lacking_package
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange, have_data

T = TypeVar("T")

RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_ORIENTATION, _WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _NO_DATA = 0x0112, 256, 257, 258, 42113
_DEEP_COLOURS = re.compile(r"(RGB|RGBA|RGBX|RGBa|LA);16[LBN]")
"""Raw modes of 16 bits a channel, of which Pillow keeps the upper byte."""
_LOWER_BYTES = {
    "RGB;16L": "RGB;16B", "RGB;16B": "RGB;16L", "RGBX;16L": "RGBX;16B", "RGBX;16B": "RGBX;16L",
    "RGBA;16L": "RGBA;16B", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
    "RGBX;16N": "RGBX;16B" if sys.byteorder == "little" else "RGBX;16L",
    "RGBA;16N": "RGBA;16B" if sys.byteorder == "little" else "RGBA;16L",
}  # fmt: skip
"""Raw modes that read the lower byte of the same data, by swapping the byte order. Premultiplied colours have no such
mode; grey with alpha is read as four bytes, of which the second is the lower byte of grey."""
_CODECS = ("raw", "zip", "libtiff")
PAGED = frozenset({"TIFF", "GIF", "PNG", "WEBP", "MPO", "AVIF", "HEIF"})
"""Formats whose files may hold several images."""
MIN_OPACITY, MIN_VISIBLE = 0.5, 0.005
"""An alpha channel makes at least this share of the pixels fully opaque or fully transparent, and shows at least this
share."""

MAX_MEGAPIXELS = 179.0
"""Default limit for the size of a photo, in millions of pixels, that of Pillow."""

MAX_WHOLE_PIXELS = int(MAX_MEGAPIXELS * 1e6)
"""Images with more pixels are reduced while they are decoded, if the format allows it."""

MAX_HALVINGS = 3
"""JPEG can be decoded at 1/2, 1/4 and 1/8 of its size."""

MAX_BITS = 16
"""Number of bits of a pixel value in files with more than 8 bits that do not state it, and the upper limit."""


class UnreadableImageError(UserError):
    """An image that cannot be decoded; the message names the file and the reason, on one line."""

    def __init__(self, file: str, reason: str):
        self.file, self.reason = file, " ".join(reason.split()) or "unknown reason"
        super().__init__(f"{self.file!r}: {self.reason}")


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
      of pages.

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
    image = decode(path)
    rgb = _to_rgb(image, path, value_range)
    for name in ("full_size", "pages"):
        if name in image.info:
            rgb.info[name] = image.info[name]
    return rgb


def preview(path: str | os.PathLike[str], side: int, value_range: ValueRange | None = None) -> bytes:
    """An image file as a JPEG whose longest side is at most `side` pixels; see `load_image`."""
    image = load_image(path, value_range)
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def allow_megapixels(most: float | None = None) -> None:
    """Sets the size limit of images in this process, in millions of pixels; None: 179, Pillow's default.

    JPEG and JPEG 2000 images above Pillow's limit are reduced while they are decoded.
    """
    # Pillow warns at this value, and refuses at twice the value
    Image.MAX_IMAGE_PIXELS = int((most or MAX_MEGAPIXELS) * 1e6 / 2)


def full_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a decoded photo before any reduction."""
    size: tuple[int, int] = image.info.get("full_size", image.size)
    return size


def size_of(sample: Sample) -> tuple[int, int] | None:
    """Width and height of an upright image, for files from the header; None if it cannot be read."""
    if sample.is_file:
        return from_header(sample.path, _upright_size, None)
    try:
        return load_image(sample).size
    except UnreadableImageError:
        return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an undecoded image after its orientation is applied."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # some versions of Pillow return the upright size; the tags have the stored size
        width, height = (int(image.tag_v2[tag]) for tag in (_WIDTH, _HEIGHT))
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def from_header(path: str | os.PathLike[str], read: Callable[[Image.Image], T], default: T) -> T:
    """The result of `read` for an undecoded image file, or a page of it; `default` if that fails."""
    try:
        file, page = page_of(os.fspath(path))
        # a pipe or a device would block or never end
        if not Path(file).is_file():
            return default
        with Image.open(file, formats=formats_of(file)) as image:
            image.seek(page - 1)
            return read(image)
    except Exception:  # decoding will report the problem
        return default


def decode(path: str) -> Image.Image:
    """The decoded, upright image in the mode of the file; `FILE#NUMBER` names a page, from 1."""
    file, page = page_of(path)
    try:
        status = Path(file).stat()
        # a pipe or a device would block or never end
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError(path, "not a regular file")
        if status.st_size == 0:
            raise UnreadableImageError(path, "the file is empty")
        with Path(file).open("rb") as stream:
            image = _opened(stream, file, page)
            count, lower_bytes = pages_in(image), _lower_bytes(image)
            image = _upright(_reduced(image))
            image.info["pages"] = count
            if lower_bytes:
                # decode the file a second time
                stream.seek(0)
                image.info["lower_bytes"] = _upright(lower_bytes(_opened(stream, file, page)))
            return image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        package = lacking_package(file)
        formats = f"not an image in a known format ({', '.join(formats_of(file))})"
        reason = f"a HEIC image, which Pillow cannot read without a plug-in; {package}" if package else formats
    except Image.DecompressionBombError:
        # Pillow's own message warns of an attack
        reason = (
            f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels; "
            "--config.data.max_megapixels=NUMBER allows more"
        )
    except EOFError:
        reason = f"has no page {page}"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        # decoders raise many kinds of exceptions for damaged files: struct.error, SyntaxError, KeyError, zlib.error
        reason = f"cannot be decoded: {error or type(error).__name__}"
    raise UnreadableImageError(path, reason)


def page_of(path: str) -> tuple[str, int]:
    """(file, page from 1) of a path: `tray.tif#2` is a page unless a file has this name."""
    file, _, number = path.rpartition("#")
    if file and number.isdecimal() and int(number) and not Path(path).exists():
        return file, int(number)
    return path, 1


def pixel_values(image: Image.Image) -> np.ndarray | None:
    """Pixel values of a decoded image that do not have 8 bits: [h, w] (uint16, int32, float32) or uint16 [h, w, 3]."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    if not image.info.get("deep_colours"):
        return None
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    if "lower_bytes" not in image.info:
        # without lower bytes, repeat the upper byte, so that the full range is used
        return upper * np.uint16(257)
    lower = np.asarray(image.info["lower_bytes"])
    return upper * np.uint16(256) + (lower[..., 1:2] if image.info["deep_colours"] == "LA" else lower[..., :3])


def declared_no_data(image: Image.Image) -> tuple[float, ...]:
    """The no-data value that an image file declares in GDAL's tag, if it does."""
    if "no_data" in image.info:
        known: tuple[float, ...] = image.info["no_data"]
        return known
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return ()
    try:
        value = float(str(image.tag_v2[_NO_DATA]).strip("\0 "))
    except (KeyError, ValueError):
        return ()
    return (value,) if np.isfinite(value) else ()


def has_high_bit_depth(image: Image.Image) -> bool:
    """Whether the values of an image file do not have 8 bits, before or after it is decoded."""
    return image.mode.startswith("I") or image.mode == "F" or bool(_deep_colours(image))


def _deep_colours(image: Image.Image) -> str:
    """The channels of 16-bit colours; empty for others."""
    if "deep_colours" in image.info:
        return str(image.info["deep_colours"])
    # the raw mode is only available before decoding, which drops the lower byte
    found = [_DEEP_COLOURS.fullmatch(_raw_mode(tile)) for tile in getattr(image, "tile", ())]
    return found[0][1] if found and found[0] and image.mode.startswith("RGB") else ""


def _raw_mode(tile: Any) -> str:
    args = tile[3] if isinstance(tile[3], tuple | list) else (tile[3],)
    return str(args[0]) if args else ""


def _opened(stream: BinaryIO, file: str, page: int) -> Image.Image:
    image = Image.open(stream, formats=formats_of(file))
    if page > 1:
        image.seek(page - 1)
    return image


def _lower_bytes(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """A function that makes an undecoded second copy of the image return lower bytes; None if that is not possible."""
    tiles = list(getattr(image, "tile", ()))
    if not _deep_colours(image) or any(tile[0] not in _CODECS or _raw_mode(tile) not in _LOWER_BYTES for tile in tiles):
        return None

    def changed(copy: Image.Image) -> Image.Image:
        swapped = []
        for tile in tiles:
            raw = _LOWER_BYTES[_raw_mode(tile)]
            swapped.append(tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw))
        copy.tile = swapped  # type: ignore[attr-defined]
        return copy

    return changed


def _upright(image: Image.Image) -> Image.Image:
    # needed for the conversion to 8 bits, but lost by decoding and transposing
    facts: dict[str | tuple[int, int], Any] = {
        "bits": _bits(image),
        "format": image.format,
        "deep_colours": _deep_colours(image),
        "no_data": declared_no_data(image),
    }
    image.load()
    orientation = _orientation(image)
    image.info |= facts
    if "full_size" in image.info and orientation in _SIDEWAYS:
        image.info["full_size"] = image.info["full_size"][::-1]
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def pages_in(image: Image.Image) -> int:
    """Number of pages or frames of an open file; layers do not count."""
    if image.format not in PAGED:
        return 1
    position = image.tell()
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged page list; the current page may be intact
        image.seek(position)
        return 1


def _orientation(image: Image.Image) -> int | None:
    try:
        orientation: int | None = image.getexif().get(_ORIENTATION)
    except Exception:  # a malformed EXIF block does not affect the pixels
        return None
    return orientation


def _reduced(image: Image.Image) -> Image.Image:
    """The undecoded image; a very large one is set to be decoded at 1/2, 1/4 or 1/8 of its size."""
    width, height = image.size
    halvings = next((k for k in range(MAX_HALVINGS) if width * height <= MAX_WHOLE_PIXELS * 4**k), MAX_HALVINGS)
    if halvings and image.format in ("JPEG", "MPO"):
        image.draft("RGB", (width >> halvings, height >> halvings))
    elif halvings and image.format == "JPEG2000":
        image.reduce = halvings  # type: ignore[method-assign, assignment]
    if halvings:
        image.info["full_size"] = width, height
    return image


def _to_rgb(image: Image.Image, name: str, value_range: ValueRange | None) -> Image.Image:
    try:
        values, has_data = pixel_values(image), None
        if values is not None:
            rgb, has_data = _deep_to_rgb(image, values, value_range)
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


def _deep_to_rgb(
    image: Image.Image, values: np.ndarray, value_range: ValueRange | None
) -> tuple[Image.Image, Bool[np.ndarray, "h w"]]:
    """8-bit RGB of values that do not have 8 bits, and a mask of the pixels with data."""
    no_data = (*(value_range.no_data if value_range else ()), *declared_no_data(image))
    has_data = np.asarray(have_data(values, no_data).reshape(*values.shape[:2], -1).all(axis=-1))
    if not has_data.any():
        raise UnreadableImageError("image", "no pixel has data")
    pixels = (value_range or _own_range(image, values[has_data])).to_uint8(values)
    if not has_data.all():
        # the mean avoids strong edges around these pixels
        pixels[~has_data] = np.rint(pixels[has_data].mean(axis=0))
    return Image.fromarray(pixels).convert("RGB"), has_data


def _own_range(image: Image.Image, values: np.ndarray) -> ValueRange:
    """The range of a single image: from its number of bits if known, otherwise from its extremes."""
    # some versions of Pillow widen PNG and PGM to "I", but their values are 16-bit unsigned; Pillow already scales PGM
    if values.dtype == np.uint16 or (image.format or image.info.get("format")) in ("PNG", "PPM"):
        return ValueRange(0, 2 ** image.info.get("bits", MAX_BITS) - 1)
    low, high = float(values.min()), float(values.max())
    return ValueRange(low, high if low < high else low + 1)


def _from_reader(
    name: str, read: Callable[[], np.ndarray | Image.Image], value_range: ValueRange | None
) -> Image.Image:
    try:
        image = read()
        if isinstance(image, Image.Image):
            return _to_rgb(image, name, value_range)
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


def _bits(image: Image.Image) -> int:
    """Bits of a pixel value; 16 if the file does not state it."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, MAX_BITS)
    return min(int(bits[0] if isinstance(bits, tuple) else bits) or MAX_BITS, MAX_BITS)
