"""One image: decode whatever file a person has, resize, normalise; masks; what a bad file gets."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.samples import Sample, is_image_name, natural_key

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""Formats that are decoded, told by content and not by the file's name. Others in Pillow call outside programs."""

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
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258


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


def load_image(source: Source) -> Image.Image:
    """Decodes an image to 8-bit RGB, upright.

    - EXIF orientation is applied; a malformed EXIF block counts as none.
    - Grey is repeated over the channels; palettes are looked up; CMYK and the like are converted without profiles.
    - Transparent parts show white, as a browser shows a cut-out part.
    - 16-bit grey is divided by the range of its own bit depth (65535, or 4095 for 12-bit TIFF), not by its brightest
      pixel: images of a set stay comparable. 16-bit colour keeps the high byte.
    - Floats, and signed or 32-bit integers, have no such range: the finite minimum becomes 0, the maximum 255;
      infinities go to the ends, NaN to 0, a constant image to 0.
    - Of animations and multi-page files the first frame counts.

    Args:
        source: a file, a uint8 array [h, w, 3] or [h, w], a Pillow image, or an image of a stored set.

    Raises:
        UnreadableImage: missing, not a regular file, not an image, truncated, too large (Pillow's limit against
            decompression bombs, 179 million pixels), or an array of another kind.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, "image")
    if isinstance(source, StoredImage):
        return _from_store(source)
    return _to_rgb(_decode(os.fspath(source)), os.fspath(source))


def preprocess(
    image: Image.Image, size: int, resample: str, mean: Sequence[float], std: Sequence[float]
) -> Float[np.ndarray, "s s 3"]:
    """Resizes straight to size x size on 8-bit values with antialiasing, scales to [0, 1], normalises.

    The same numbers as torchvision's Resize((s, s)), ToTensor and Normalize on a Pillow image, which MuSc and the
    processors of CLIP and DINOv2 use; the aspect ratio is not kept.

    Args:
        image: RGB.
        size: side s in pixels.
        resample: "bilinear" or "bicubic".
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1].
    """
    pixels = np.asarray(image.resize((size, size), RESAMPLE[resample]), np.float32)
    return (pixels / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


def load_mask(
    source: str | os.PathLike[str] | np.ndarray | Image.Image, size: int | tuple[int, int] | None, rule: str = "nearest"
) -> Bool[np.ndarray, "h w"]:
    """Reads a mask of any size, mode and bit depth: every pixel that is not black or transparent is anomalous.

    (In a JPEG, from 128 on: its compression leaves small values around the edges.)

    Args:
        source: a mask file, a directory of mask files whose union counts, or an array [h, w].
        size: side to resize to, or (height, width); None keeps the mask's own.
        rule: how a resized pixel is decided. "nearest": by nearest-neighbour resizing. "full": by bilinear resizing of
            0 and 255, anomalous where exactly 255 is left (MuSc's code casts to int, for MVTec AD and BTAD).
            "any": the same resizing, anomalous where anything is left (MuSc's for VisA).

    Raises:
        UnreadableImage: the file cannot be decoded, or the directory holds no mask.
        ValueError: unknown rule.
    """
    if rule not in ("nearest", "full", "any"):
        raise ValueError(f"mask rule {rule!r} is not one of nearest, full, any")
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        files = sorted((p for p in Path(source).iterdir() if is_image_name(p.name)), key=lambda p: natural_key(p.name))
        if not files:
            raise UnreadableImage(os.fspath(source), "the directory holds no mask image")
        parts = [_binary(file) for file in files]
        if len({part.shape for part in parts}) > 1:
            raise UnreadableImage(os.fspath(source), "its mask images differ in size")
        binary = np.logical_or.reduce(parts)
    else:
        binary = _binary(source)
    if size is None:
        return binary
    image = Image.fromarray(binary.astype(np.uint8) * 255)
    kind = "nearest" if rule == "nearest" else "bilinear"
    height, width = (size, size) if isinstance(size, int) else size
    resized = np.asarray(image.resize((width, height), RESAMPLE[kind]))
    return resized == 255 if rule == "full" else resized > 0


def _decode(path: str) -> Image.Image:
    """The decoded, upright first frame in the file's own mode."""
    try:
        status = Path(path).stat()
        # a pipe or a device would block or never end
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "not a regular file")
        if status.st_size == 0:
            raise UnreadableImage(path, "the file is empty")
        with Path(path).open("rb") as file:
            return _upright(Image.open(file, formats=FORMATS))
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        reason = f"not an image in a known format ({', '.join(FORMATS)})"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        # decoders answer broken bytes with a dozen kinds of exception: struct.error, SyntaxError, KeyError, zlib.error
        reason = f"cannot be decoded: {error or type(error).__name__}"
    raise UnreadableImage(path, reason)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # whatever a malformed block does to the parser, the pixels are fine
        orientation = None
    # what the conversion to 8 bits must know; transposing forgets it
    image.info["bits"], image.info["format"] = _bits(image), image.format
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        if image.mode.startswith("I") or image.mode == "F":
            return Image.fromarray(_to_8_bits(image)).convert("RGB")
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
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, 16) if isinstance(image, TiffImagePlugin.TiffImageFile) else 16
    return min(int(bits[0] if isinstance(bits, tuple) else bits) or 16, 16)


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Deeper grey values as uint8 [h, w]: by the range of the bit depth, or by the extremes where there is none."""
    values = np.asarray(image)
    # Pillow widens PNG and PGM to "I" in some versions, but their samples are 16-bit unsigned
    if image.mode.startswith("I;16") or image.info.get("format") in ("PNG", "PPM"):
        limit = 2 ** image.info.get("bits", 16) - 1
        return np.rint(np.clip(values.astype(np.float32), 0, limit) * np.float32(255 / limit)).astype(np.uint8)
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scaled = (np.clip(values, low, high) - low) / (high - low or 1.0)
    return np.rint(np.nan_to_num(scaled) * 255).astype(np.uint8)


def _binary(source: str | os.PathLike[str] | np.ndarray | Image.Image) -> np.ndarray:
    """The mask at its own size as bool [h, w]."""
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.size == 0:
            raise UnreadableImage("array", f"expected a mask [h, w], got {list(source.shape)}")
        return np.nan_to_num(source) > 0
    image = source if isinstance(source, Image.Image) else _decode(os.fspath(source))
    if image.mode.startswith("I") or image.mode == "F":
        return np.nan_to_num(np.asarray(image)) > 0
    threshold = 127 if image.info.get("format") in ("JPEG", "MPO") else 0
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        return (pixels[..., :3].max(axis=-1) > threshold) & (pixels[..., 3] > 0)
    return np.asarray(image.convert("RGB")).max(axis=-1) > threshold
