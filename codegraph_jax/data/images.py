"""One image: decode whatever file a person has, resize, normalise; what a bad file gets."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.formats import formats_of
from codegraph_jax.data.samples import Sample

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
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258

LARGEST_WHOLE = 178_956_970
"""Pixels up to which every format is decoded as it is: Pillow's own limit."""

MOST_HALVINGS = 3
"""What JPEG's transform gives for little work."""

DEEP = 16
"""Bits of a sample in files that have room for more than 8."""


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


def load_image(source: Source, depth: int = DEEP) -> Image.Image:
    """Decodes an image to 8-bit RGB, upright.

    - EXIF orientation is applied; a malformed EXIF block counts as none.
    - Grey is repeated over the channels; palettes are looked up; CMYK and the like are converted without profiles.
    - Transparent parts show white, as a browser shows a cut-out part.
    - 16-bit samples are divided by the range of their bit depth, not by the brightest pixel: images of a set stay
      comparable. A file that says its depth (12-bit TIFF) is believed, for all others `depth` counts. Of 16-bit colours
      Pillow keeps the upper byte.
    - Floats, and signed or 32-bit integers, have no such range: the finite minimum becomes 0, the maximum 255;
      infinities go to the ends, NaN to 0, a constant image to 0.
    - Of animations and multi-page files the first frame counts.

    Args:
        source: a file, a uint8 array [h, w, 3] or [h, w], a Pillow image, or an image of a stored set.
        depth: bits that 16-bit samples really have, see `codegraph_jax.data.depth`.

    Raises:
        UnreadableImage: missing, not a regular file, not an image, truncated, too large (see `allow_megapixels`), or
            an array of another kind.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, "image", depth)
    if isinstance(source, StoredImage):
        return _from_store(source)
    image = decode(os.fspath(source))
    rgb = _to_rgb(image, os.fspath(source), depth)
    if "full_size" in image.info:
        rgb.info["full_size"] = image.info["full_size"]
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
        path = os.fspath(source)
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return None
        with Image.open(path, formats=formats_of(path)) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)
    except Exception:  # whatever is wrong with it is said when it is decoded
        return None


def decode(path: str) -> Image.Image:
    """The decoded, upright first frame in the file's own mode."""
    try:
        status = Path(path).stat()
        # a pipe or a device would block or never end
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "not a regular file")
        if status.st_size == 0:
            raise UnreadableImage(path, "the file is empty")
        with Path(path).open("rb") as file:
            return _upright(_reduced(Image.open(file, formats=formats_of(path))))
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        reason = f"not an image in a known format ({', '.join(formats_of(path))})"
    except Image.DecompressionBombError:
        # its own message speaks of an attack
        reason = (
            f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels; "
            "--config.data.max_megapixels=NUMBER allows more"
        )
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        # decoders answer broken bytes with a dozen kinds of exception: struct.error, SyntaxError, KeyError, zlib.error
        reason = f"cannot be decoded: {error or type(error).__name__}"
    raise UnreadableImage(path, reason)


def is_deep(image: Image.Image) -> bool:
    """Whether samples have 16 bits, and nothing says that fewer are used."""
    # signed and 32-bit integers and floats have other rules
    grey = image.mode.startswith("I;16") or (image.mode == "I" and _format(image) == "PNG")
    # decoding drops the lower byte of colours, so that the raw mode is looked at before
    deep_colour = image.info.get("deep_colour", any(";16" in str(tile.args) for tile in getattr(image, "tile", ())))
    return (grey or (image.mode.startswith("RGB") and deep_colour)) and image.info.get("bits", _bits(image)) == DEEP


def _format(image: Image.Image) -> str | None:
    return image.format or image.info.get("format")


def _upright(image: Image.Image) -> Image.Image:
    deep_colour = image.mode.startswith("RGB") and is_deep(image)
    image.load()
    orientation = _orientation(image)
    # what the conversion to 8 bits must know; transposing forgets it
    image.info["bits"], image.info["format"] = _bits(image), image.format
    image.info["deep_colour"] = deep_colour
    if "full_size" in image.info and orientation in _SIDEWAYS:
        image.info["full_size"] = image.info["full_size"][::-1]
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


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


def _to_rgb(image: Image.Image, name: str, depth: int) -> Image.Image:
    try:
        if image.mode.startswith("I") or image.mode == "F":
            return Image.fromarray(_to_8_bits(image, depth)).convert("RGB")
        if depth < DEEP and image.info.get("deep_colour"):
            image = _brightened(image, depth)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")
    except Exception as error:  # of as many kinds as in decoding: palettes and transparency come from the file too
        raise UnreadableImage(name, f"mode {image.mode}: {error or type(error).__name__}") from None


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise UnreadableImage("array", f"expected uint8 [h, w, 3] or [h, w], got {array.dtype} {list(array.shape)}")
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


def _brightened(image: Image.Image, depth: int) -> Image.Image:
    """An image of 16-bit colours, of which the upper byte is left, by the range of so many bits; opacity as it is."""
    # the lower byte is taken to be half of what it can be
    table = [0, *(min(255, round((256 * v + 127.5) * 255 / (2**depth - 1))) for v in range(1, 256))]
    bands = [band if name == "A" else band.point(table) for name, band in zip(image.getbands(), image.split())]
    return Image.merge(image.mode, bands)


def _to_8_bits(image: Image.Image, depth: int) -> np.ndarray:
    """Deeper grey values as uint8 [h, w]: by the range of the bit depth, or by the extremes where there is none."""
    values = np.asarray(image)
    # Pillow widens PNG and PGM to "I" in some versions, but their samples are 16-bit unsigned; those of a PGM, which
    # says its greatest value, fill the range already
    if image.mode.startswith("I;16") or image.info.get("format") in ("PNG", "PPM"):
        bits = image.info.get("bits", DEEP)
        limit = 2 ** (depth if bits == DEEP and _format(image) != "PPM" else bits) - 1
        return np.rint(np.clip(values.astype(np.float32), 0, limit) * np.float32(255 / limit)).astype(np.uint8)
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scaled = (np.clip(values, low, high) - low) / (high - low or 1.0)
    return np.rint(np.nan_to_num(scaled) * 255).astype(np.uint8)
