"""Decodes image files in the mode of the file, upright, with the facts that their conversion to RGB needs."""

import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.formats import formats_of, lacking_package

T = TypeVar("T")

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
_WIDE_COLOURS = re.compile(r"(RGB|RGBA|RGBX|RGBa|LA);16[LBN]")
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


@dataclass(frozen=True)
class Decoded:
    """A decoded, upright image.

    Attributes:
        image: the image in the mode of the file; very large ones are reduced.
        format: Pillow's name of the format; None for an image in memory.
        bits: bits of a pixel value, if it has more than 8.
        no_data: the no-data value that the file declares, if it does.
        page_count: number of pages or frames of the file.
        full_size: width and height before any reduction.
        values: pixel values that do not have 8 bits: [h, w] (uint16, int32, float32) or uint16 [h, w, 3]; None if they
            have 8 bits.
    """

    image: Image.Image
    format: str | None
    bits: int
    no_data: tuple[float, ...]
    page_count: int
    full_size: tuple[int, int]
    values: np.ndarray | None

    @classmethod
    def of(cls, image: Image.Image) -> "Decoded":
        """An image that Pillow has opened."""
        # Pillow keeps only the upper byte of 16-bit colours, so these images count as 8-bit
        image.load()
        return cls(image, image.format, _bits(image), declared_no_data(image), 1, image.size, _values(image, "", None))


def detached(image: ImageFile.ImageFile) -> Image.Image:
    """A copy of an opened image that stays the same when its file is closed or shows another frame."""
    copied = image.copy()
    copied.format = image.format
    copied.tag_v2 = dict(getattr(image, "tag_v2", {}))  # type: ignore[attr-defined]
    return copied


def allow_megapixels(most: float | None = None) -> None:
    """Sets the size limit of images in this process, in millions of pixels; None: 179, Pillow's default.

    JPEG and JPEG 2000 images above Pillow's limit are reduced while they are decoded.
    """
    # Pillow warns at this value, and refuses at twice the value
    Image.MAX_IMAGE_PIXELS = int((most or MAX_MEGAPIXELS) * 1e6 / 2)


def decode(path: str) -> Decoded:
    """Decodes an image file; `FILE#NUMBER` names a page, from 1.

    Raises:
        UnreadableImageError: see `codegraph_jax.data.images.load_image`.
    """
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
            colours, lower_bytes = _wide_channels(image), _lower_bytes(image)
            # decoding and transposing lose these facts
            kind, bits, no_data = image.format, _bits(image), declared_no_data(image)
            page_count, full_size = pages_in(image), _reduce(image)
            image, lower = _upright(image), None
            if lower_bytes:
                # decode the file a second time
                stream.seek(0)
                lower = _upright(lower_bytes(_opened(stream, file, page)))
            return Decoded(
                image, kind, bits, no_data, page_count, full_size or image.size, _values(image, colours, lower)
            )
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


def page_of(path: str) -> tuple[str, int]:
    """(file, page from 1) of a path: `tray.tif#2` is a page unless a file has this name."""
    file, _, number = path.rpartition("#")
    if file and number.isdecimal() and int(number) and not Path(path).exists():
        return file, int(number)
    return path, 1


def _values(image: Image.Image, colours: str, lower: Image.Image | None) -> np.ndarray | None:
    """`Decoded.values` of a decoded image; `colours` names the channels of 16-bit colours, `lower` has lower bytes."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    if not colours:
        return None
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    if lower is None:
        # without lower bytes, repeat the upper byte, so that the full range is used
        return upper * np.uint16(257)
    low = np.asarray(lower)
    return upper * np.uint16(256) + (low[..., 1:2] if colours == "LA" else low[..., :3])


def declared_no_data(image: Image.Image) -> tuple[float, ...]:
    """The no-data value that an image file declares in GDAL's tag, if it does."""
    try:
        value = float(str(getattr(image, "tag_v2", {})[_NO_DATA]).strip("\0 "))
    except (KeyError, ValueError):
        return ()
    return (value,) if np.isfinite(value) else ()


def has_high_bit_depth(image: Image.Image) -> bool:
    """Whether an undecoded image has 16-bit, 32-bit or float pixel values."""
    return image.mode.startswith("I") or image.mode == "F" or bool(_wide_channels(image))


def _wide_channels(image: Image.Image) -> str:
    """The channels of 16-bit colours in an undecoded image; empty for others."""
    # decoding drops the raw mode, and the lower byte
    matches = [_WIDE_COLOURS.fullmatch(_raw_mode(tile)) for tile in getattr(image, "tile", ())]
    return matches[0][1] if matches and matches[0] and image.mode.startswith("RGB") else ""


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
    if not _wide_channels(image) or any(
        tile[0] not in _CODECS or _raw_mode(tile) not in _LOWER_BYTES for tile in tiles
    ):
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
    image.load()
    orientation = _orientation(image)
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an undecoded image after its orientation is applied."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # some versions of Pillow return the upright size; the tags have the stored size
        width, height = (int(image.tag_v2[tag]) for tag in (_WIDTH, _HEIGHT))
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


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


def _reduce(image: Image.Image) -> tuple[int, int] | None:
    """Sets a very large undecoded image to be decoded at 1/2, 1/4 or 1/8 of its size; returns the upright size then."""
    width, height = image.size
    halvings = next((k for k in range(MAX_HALVINGS) if width * height <= MAX_WHOLE_PIXELS * 4**k), MAX_HALVINGS)
    if not halvings:
        return None
    full_size = upright_size(image)
    if image.format in ("JPEG", "MPO"):
        image.draft("RGB", (width >> halvings, height >> halvings))
    elif image.format == "JPEG2000":
        image.reduce = halvings  # type: ignore[method-assign, assignment]
    return full_size


def _bits(image: Image.Image) -> int:
    """Bits of a pixel value; 16 if the file does not state it."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, MAX_BITS)
    return min(int(bits[0] if isinstance(bits, tuple) else bits) or MAX_BITS, MAX_BITS)
