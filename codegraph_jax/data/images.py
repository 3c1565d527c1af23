"""One image: decode whatever file a person has, resize, normalise; what a bad file gets."""

import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.formats import formats_of, lacking_package
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange, have_data

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
"""Raw modes by which the same data give the lower byte: those of the other byte order. Premultiplied colours have
none; grey and opacity are read as four bytes, of which the second is the lower one of grey."""
_CODECS = ("raw", "zip", "libtiff")
PAGED = frozenset({"TIFF", "GIF", "PNG", "WEBP", "MPO", "AVIF", "HEIF"})
"""Formats whose files may hold several pictures."""
OPACITY, VISIBLE = 0.5, 0.005
"""The share of pixels that an alpha channel shows or hides altogether, at least; and the least share that it shows."""

LARGEST_WHOLE = 178_956_970
"""Pixels up to which every format is decoded as it is: Pillow's own limit."""

MOST_HALVINGS = 3
"""What JPEG's transform gives for little work."""

DEEP = 16
"""Bits of a sample in files that have room for more than 8 and do not say how many they use."""


@dataclass(frozen=True)
class StoredImage:
    """An image that lies in no file of its own: read when it is needed, and as often as it is."""

    name: str
    """What messages and results call it."""
    read: Callable[[], np.ndarray] = field(repr=False)
    """Gives uint8 [h, w, 3], [h, w, 1] or [h, w]; called by several threads at once."""

    def __str__(self) -> str:
        return self.name


Source = str | os.PathLike[str] | np.ndarray | Image.Image | StoredImage


def source_of(sample: Sample) -> Source:
    """Where the pixels of a sample come from."""
    return StoredImage(sample.path, sample.read) if sample.read else sample.path


class UnreadableImage(UserError):
    """An image that cannot be decoded; the message names the file and the reason, on one line."""

    def __init__(self, file: str, reason: str):
        self.file, self.reason = file, " ".join(reason.split()) or "unknown reason"
        super().__init__(f"{self.file!r}: {self.reason}")


def load_image(source: Source, value_range: ValueRange | None = None) -> Image.Image:
    """Decodes an image to 8-bit RGB, upright.

    - EXIF orientation is applied; a malformed EXIF block counts as none.
    - Grey is repeated over the channels; palettes are looked up; CMYK and the like are converted without profiles.
    - Transparent parts show white, as a browser shows a cut-out part. An alpha channel that hides everything, or is
      hardly ever quite opaque or quite transparent (a fourth band), is no alpha channel: it is left out.
    - Samples of 16 bits, 32 bits and floats are shown by `value_range`. Pixels without data become as bright as the
      mean of the others, and `info["has_data"]` says which pixels have some, where that is not all of them.
    - Without a range, 16-bit samples are divided by the greatest value that their bits can hold; floats, and signed or
      32-bit integers, go from the image's own least value to its greatest: such images cannot be compared.
    - Of animations and multi-page files the first page counts, or that of `FILE#NUMBER`; `info["pages"]` has their
      number.

    Args:
        source: a file, a uint8 array [h, w, 3] or [h, w], a Pillow image, or an image of a stored set.
        value_range: of the set that the image belongs to, see `codegraph_jax.data.value_range`.

    Raises:
        UnreadableImage: missing, not a regular file, not an image, truncated, too large (see `allow_megapixels`),
            without any data, or an array of another kind.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, "image", value_range)
    if isinstance(source, StoredImage):
        return _from_store(source)
    image = decode(os.fspath(source))
    rgb = _to_rgb(image, os.fspath(source), value_range)
    for name in ("full_size", "pages"):
        if name in image.info:
            rgb.info[name] = image.info[name]
    return rgb


def allow_megapixels(most: float) -> None:
    """How many millions of pixels an image may have, in this process from now on; Pillow's own limit is 179.

    JPEG and JPEG 2000 beyond Pillow's limit are reduced while they are decoded, so that they never exist whole.
    """
    # Pillow warns at its limit, and refuses at twice that
    Image.MAX_IMAGE_PIXELS = int(most * 1e6 / 2)


def full_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the photograph that was decoded, which may have been reduced."""
    size: tuple[int, int] = image.info.get("full_size", image.size)
    return size


def size_of(source: Source) -> tuple[int, int] | None:
    """Width and height of an image, upright, as its file says without being decoded; None where it cannot be read."""
    try:
        if isinstance(source, np.ndarray):
            return source.shape[1], source.shape[0]
        if isinstance(source, Image.Image):
            return source.size
        if isinstance(source, StoredImage):
            return load_image(source).size
        file, page = page_of(os.fspath(source))
        if not stat.S_ISREG(Path(file).stat().st_mode):
            return None
        with Image.open(file, formats=formats_of(file)) as image:
            image.seek(page - 1)
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                # some versions of Pillow give the upright size, and the tags that of the stored pixels
                width, height = (int(image.tag_v2[tag]) for tag in (_WIDTH, _HEIGHT))
            return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)
    except Exception:  # whatever is wrong with it is said when it is decoded
        return None


def decode(path: str) -> Image.Image:
    """The decoded, upright image in the file's own mode; `FILE#NUMBER` is a page of a file, from 1."""
    file, page = page_of(path)
    try:
        status = Path(file).stat()
        # a pipe or a device would block or never end
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "not a regular file")
        if status.st_size == 0:
            raise UnreadableImage(path, "the file is empty")
        with Path(file).open("rb") as stream:
            image = _opened(stream, file, page)
            count, lower_bytes = pages_in(image), _lower_bytes(image)
            image = _upright(_reduced(image))
            image.info["pages"] = count
            if lower_bytes:
                # the same file a second time
                stream.seek(0)
                image.info["lower_bytes"] = _upright(lower_bytes(_opened(stream, file, page)))
            return image
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        package = lacking_package(file)
        formats = f"not an image in a known format ({', '.join(formats_of(file))})"
        reason = f"a HEIC picture, which Pillow does not read by itself; {package}" if package else formats
    except Image.DecompressionBombError:
        # its own message speaks of an attack
        reason = (
            f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels; "
            "--config.data.max_megapixels=NUMBER allows more"
        )
    except EOFError:
        reason = f"has no page {page}"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        # decoders answer broken bytes with a dozen kinds of exception: struct.error, SyntaxError, KeyError, zlib.error
        reason = f"cannot be decoded: {error or type(error).__name__}"
    raise UnreadableImage(path, reason)


def page_of(path: str) -> tuple[str, int]:
    """(file, page from 1) that a path means: `tray.tif#2` is a page where no file is called so."""
    file, _, number = path.rpartition("#")
    if file and number.isdecimal() and int(number) and not Path(path).exists():
        return file, int(number)
    return path, 1


def deep_samples(image: Image.Image) -> np.ndarray | None:
    """The samples of a decoded image that do not have 8 bits: [h, w] (uint16, int32, float32) or uint16 [h, w, 3]."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    if not image.info.get("deep_colours"):
        return None
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    if "lower_bytes" not in image.info:
        # the lower byte is taken to be as the upper one, so that the range is filled
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


def is_deep(image: Image.Image) -> bool:
    """Whether the samples of an image file do not have 8 bits, before or after it is decoded."""
    return image.mode.startswith("I") or image.mode == "F" or bool(_deep_colours(image))


def _deep_colours(image: Image.Image) -> str:
    """The channels of 16-bit colours; empty for others."""
    if "deep_colours" in image.info:
        return str(image.info["deep_colours"])
    # decoding drops the lower byte, so that the raw mode is looked at before
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
    """Makes a second copy of a file with 16-bit colours, not decoded yet, give their lower bytes; None: impossible."""
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


def _format(image: Image.Image) -> str | None:
    return image.format or image.info.get("format")


def _upright(image: Image.Image) -> Image.Image:
    # what the conversion to 8 bits must know; decoding and transposing forget it
    known: dict[str | tuple[int, int], Any] = {
        "bits": _bits(image),
        "format": image.format,
        "deep_colours": _deep_colours(image),
        "no_data": declared_no_data(image),
    }
    image.load()
    orientation = _orientation(image)
    image.info |= known
    if "full_size" in image.info and orientation in _SIDEWAYS:
        image.info["full_size"] = image.info["full_size"][::-1]
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def pages_in(image: Image.Image) -> int:
    """The pages of a file that is open, or the frames of an animation; layers of one picture are none."""
    if image.format not in PAGED:
        return 1
    place = image.tell()
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged list of pages: this one may be fine
        image.seek(place)
        return 1


def _orientation(image: Image.Image) -> int | None:
    try:
        orientation: int | None = image.getexif().get(_ORIENTATION)
    except Exception:  # whatever a malformed block does to the parser, the pixels are fine
        return None
    return orientation


def _reduced(image: Image.Image) -> Image.Image:
    """An image that is about to be decoded, at half its size, a quarter or an eighth where it is very large."""
    width, height = image.size
    halvings = next((k for k in range(MOST_HALVINGS) if width * height <= LARGEST_WHOLE * 4**k), MOST_HALVINGS)
    if halvings and image.format in ("JPEG", "MPO"):
        image.draft("RGB", (width >> halvings, height >> halvings))
    elif halvings and image.format == "JPEG2000":
        image.reduce = halvings  # type: ignore[method-assign, assignment]
    if halvings:
        image.info["full_size"] = width, height
    return image


def _to_rgb(image: Image.Image, name: str, value_range: ValueRange | None) -> Image.Image:
    try:
        samples, holds = deep_samples(image), None
        if samples is not None:
            rgb, holds = _shown(image, samples, value_range)
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
        if holds is not None and not holds.all():
            rgb.info["has_data"] = holds
        return rgb
    except UnreadableImage as error:
        raise UnreadableImage(name, error.reason) from None
    except Exception as error:  # of as many kinds as in decoding: palettes and transparency come from the file too
        raise UnreadableImage(name, f"mode {image.mode}: {error or type(error).__name__}") from None


def _is_opacity(alpha: Image.Image) -> bool:
    """Whether a channel says how opaque pixels are: it shows some, and most of them altogether or not at all."""
    counts = np.array(alpha.histogram())
    visible = (counts * np.arange(256)).sum() / (255 * counts.sum())
    return bool(counts[0] + counts[255] >= OPACITY * counts.sum() and visible >= VISIBLE)


def _shown(
    image: Image.Image, samples: np.ndarray, value_range: ValueRange | None
) -> tuple[Image.Image, Bool[np.ndarray, "h w"]]:
    """Samples that do not have 8 bits as 8-bit RGB, and which pixels have data."""
    no_data = (*(value_range.no_data if value_range else ()), *declared_no_data(image))
    holds = np.asarray(have_data(samples, no_data).reshape(*samples.shape[:2], -1).all(axis=-1))
    if not holds.any():
        raise UnreadableImage("image", "no pixel has data")
    pixels = (value_range or _own_range(image, samples[holds])).shown(samples)
    if not holds.all():
        # as bright as the rest, so that no edge stands out beside them
        pixels[~holds] = np.rint(pixels[holds].mean(axis=0))
    return Image.fromarray(pixels).convert("RGB"), holds


def _own_range(image: Image.Image, samples: np.ndarray) -> ValueRange:
    """The range of an image alone: that of its bits, or of its samples where the bits say nothing."""
    # Pillow widens PNG and PGM to "I" in some versions, but their samples are 16-bit unsigned; those of a PGM, which
    # says its greatest value, fill the range already
    if samples.dtype == np.uint16 or _format(image) in ("PNG", "PPM"):
        return ValueRange(0, 2 ** image.info.get("bits", DEEP) - 1)
    low, high = float(samples.min()), float(samples.max())
    return ValueRange(low, high if low < high else low + 1)


def require_picture(array: np.ndarray, name: str = "array") -> None:
    """Refuses an array that is not uint8 [h, w, 3] or [h, w].

    Raises:
        UnreadableImage: naming its type and shape.
    """
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise UnreadableImage(name, f"expected uint8 [h, w, 3] or [h, w], got {array.dtype} {list(array.shape)}")


def _from_array(array: np.ndarray) -> Image.Image:
    require_picture(array)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _from_store(source: StoredImage) -> Image.Image:
    try:
        array = np.asarray(source.read())
        return _from_array(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    except UnreadableImage as error:
        raise UnreadableImage(source.name, error.reason) from None
    except Exception as error:  # of as many kinds as file formats of sets and their decoders have
        raise UnreadableImage(source.name, f"cannot be read: {error or type(error).__name__}") from None


def _bits(image: Image.Image) -> int:
    """Bits of a sample, 16 where the file does not say."""
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, DEEP) if isinstance(image, TiffImagePlugin.TiffImageFile) else DEEP
    return min(int(bits[0] if isinstance(bits, tuple) else bits) or DEEP, DEEP)
