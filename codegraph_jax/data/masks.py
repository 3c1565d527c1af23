"""Finds masks by their names, distinguishes them from photos, and reads them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, Real
from PIL import Image

from codegraph_jax.core.names import composed
from codegraph_jax.data.decoding import Decoded, UnreadableImageError, decode
from codegraph_jax.data.formats import is_image_name
from codegraph_jax.data.images import RESAMPLE
from codegraph_jax.data.search import find_images, natural_key

ENDING = re.compile(r"[ _.-]?(mask|masks|gt|label|labels|seg|segmentation|ground[ _-]?truth)", re.IGNORECASE)
"""Endings of the stem of a mask, after the stem of its image."""
_ENDED = re.compile(rf"(?:{ENDING.pattern})$", re.IGNORECASE)
DIRECTORIES = frozenset(
    {
        "ground_truth", "groundtruth", "gt", "mask", "masks", "label", "labels", "annotations", "segmentation",
        "segmentations", "segmentationclass", "segmentationclasspng", "segmentationclassraw", "segmentationobject",
        "segmentationobjectpng", "masks_machine", "semantic", "instance", "instances", "panoptic",
    }
)  # fmt: skip
"""Directories of masks, including exports of CVAT, labelme and Pascal VOC; in lower case."""
OVERLAYS = frozenset(
    {
        "visualization", "visualizations", "segmentationclassvisualization", "segmentationobjectvisualization",
        "masks_human", "overlay", "overlays",
    }
)  # fmt: skip
"""Directories of photos with masks drawn over them by annotation tools; in lower case."""
LABELME = {"label": True, "label_viz": False}
"""Stems of the files that labelme writes beside a photo `img`, and whether they are masks."""
MAX_MASK_COLOURS = 64
"""Maximum number of colours of a mask with classes or objects; photos have thousands."""
DECODED_PER_DIRECTORY = 5
"""Number of files of a directory that are decoded to decide whether it holds masks."""
MIN_PAIRED_SHARE = 0.9
"""A directory may hold masks if this share of its files has the stems of photos elsewhere."""
MIN_TWO_VALUE_SHARE = 0.98
"""Share of a mask's pixels that are near its darkest or brightest value; photos are far below."""


def load_mask(
    source: str | os.PathLike[str] | np.ndarray | Image.Image,
    size: int | tuple[int, int] | None,
    rule: str = "nearest",
    inverted: bool = False,
) -> Bool[np.ndarray, "h w"]:
    """Reads a mask as True where anomalous, and resizes it.

    Values above 0 are anomalous, so masks may use 0 and 255, 0 and 1, or one value per kind of defect. In JPEG files,
    whose compression blurs edges, values above the middle of the least and the greatest are. If all visible pixels have
    one colour, the opaque pixels are anomalous. EXIF orientation is applied as for photos.

    Args:
        source: a file, a directory of mask files whose union is used, or an array [h, w].
        size: side to resize to, or (height, width); None keeps the size of the mask.
        rule: rule for resized pixels. "nearest": nearest-neighbour resizing. "full": bilinear resizing of 0 and 255,
            anomalous where the result is exactly 255 (as MuSc's cast to int, for MVTec AD and BTAD). "any": the same
            resizing, anomalous where the result is above 0 (as MuSc for VisA).
        inverted: whether black marks anomalous pixels.

    Raises:
        UnreadableImageError: the file cannot be decoded, or the directory contains no mask.
        ValueError: unknown rule.
    """
    if rule not in ("nearest", "full", "any"):
        raise ValueError(f"mask rule {rule!r} is not one of nearest, full, any")
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        files = sorted((p for p in Path(source).iterdir() if is_image_name(p.name)), key=lambda p: natural_key(p.name))
        if not files:
            raise UnreadableImageError(os.fspath(source), "the directory holds no mask image")
        masks = [_binary(file) != inverted for file in files]
        if len({mask.shape for mask in masks}) > 1:
            raise UnreadableImageError(os.fspath(source), "its mask images differ in size")
        binary = np.logical_or.reduce(masks)
    else:
        binary = _binary(source) != inverted
    if size is None:
        return binary
    image = Image.fromarray(binary.astype(np.uint8) * 255)
    kind = "nearest" if rule == "nearest" else "bilinear"
    height, width = (size, size) if isinstance(size, int) else size
    resized = np.asarray(image.resize((width, height), RESAMPLE[kind]))
    return resized == 255 if rule == "full" else resized > 0


def mask_index(directory: str) -> dict[str, str]:
    """Mask files, or directories of mask files, by the `stem` of the image.

    A mask has the stem of the image, optionally with a usual ending (`_mask`, `_GT`, `-label`); a directory named after
    the stem holds several masks.
    """
    if not Path(directory).is_dir():
        return {}
    images = find_images(directory)
    index: dict[str, str] = {}
    for name, path in images.items():
        if name.count("/") > 1:
            index.setdefault(composed(name.rsplit("/", 1)[0]), str(Path(path).parent))
    for name, path in images.items():
        index.setdefault(without_ending(stem(name)), path)
    # an exact match of stems has priority over a match without the ending
    return index | {stem(name): path for name, path in images.items()}


def masks_among(images: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Finds files that are not photos: ({name of a mask: name of its photo}, names of overlays).

    A mask is recognised by its name and its content. The name is a photo's stem with an ending, or the same stem in a
    directory of masks or in another directory whose files have the stems of photos. In its content, nearly all pixels
    have one of two values, or there are few colours. Drawings of annotation tools are recognised by their directory.

    Args:
        images: files by POSIX path below the root.
    """
    named = {name: _NameParts.of(name) for name in images}
    by_stem: dict[str, list[str]] = {}
    for name, key in named.items():
        by_stem.setdefault(key.stem, []).append(name)
    suspects = _suspicious_directories(images, named, by_stem)
    masks, overlays = {}, []
    for name, key in named.items():
        # labelme writes a copy of the photo beside its masks
        photos = (other for other in by_stem.get("img", ()) if named[other].directory == key.directory)
        if key.stem in LABELME and (copy := next(photos, None)):
            if not LABELME[key.stem]:
                overlays.append(name)
            elif looks_like_mask(images[name]):
                masks[name] = copy
            continue
        suspicious = key.in_mask_directory or key.directory in suspects
        stems = {key.stem_without_ending, key.stem} if suspicious else {key.stem_without_ending} - {key.stem}
        partners = [
            other
            for partner_stem in sorted(stems)
            for other in by_stem.get(partner_stem, ())
            if other != name and not named[other].in_mask_directory and named[other].directory not in suspects
        ]
        if not partners:
            continue
        if _below(name, OVERLAYS):
            overlays.append(name)
        elif looks_like_mask(images[name]):
            masks[name] = min(partners, key=lambda other: _distance(PurePosixPath(name), PurePosixPath(other)))
    return masks, overlays


@dataclass(frozen=True)
class _NameParts:
    """Components of a file name: directory, stem, and stem without the ending of a mask."""

    directory: str
    stem: str
    stem_without_ending: str
    in_mask_directory: bool

    @classmethod
    def of(cls, name: str) -> "_NameParts":
        directory, _, own = stem(name).rpartition("/")
        return cls(directory, own, without_ending(own), _below(name, DIRECTORIES | OVERLAYS))


def _suspicious_directories(
    images: Mapping[str, str], named: Mapping[str, _NameParts], by_stem: Mapping[str, list[str]]
) -> set[str]:
    """Directories whose files have the stems of photos elsewhere and look like masks, while the photos do not.

    The latter excludes sets of black-and-white images.
    """
    inside: dict[str, list[tuple[str, str | None]]] = {}
    for name, key in named.items():
        # one match is enough; a hundred thousand files may share a few stems
        elsewhere = (
            other
            for other_stem in dict.fromkeys((key.stem, key.stem_without_ending))
            for other in by_stem.get(other_stem, ())
            if named[other].directory != key.directory and not named[other].in_mask_directory
        )
        inside.setdefault(key.directory, []).append((name, next(elsewhere, None)))
    directories = set()
    for directory, files in inside.items():
        paired = [(name, other) for name, other in files if other]
        if not paired or len(paired) < MIN_PAIRED_SHARE * len(files) or named[files[0][0]].in_mask_directory:
            continue
        some = paired[:: -(-len(paired) // DECODED_PER_DIRECTORY)]
        # for most directories, the first file decides
        if all(looks_like_mask(images[name]) for name, _ in some) and not all(
            looks_like_mask(images[other]) for _, other in some
        ):
            directories.add(directory)
    return directories


def looks_like_mask(path: str) -> bool:
    """Whether nearly all pixels of an image file have one of two values, or it has few colours; False if unreadable."""
    try:
        image = decode(path).image
        values = _values(image)
    except UnreadableImageError:
        return False
    low, high = float(values.min()), float(values.max())
    near = 0.1 * (high - low)
    if np.mean((values <= low + near) | (values >= high - near)) >= MIN_TWO_VALUE_SHARE:
        return True
    return image.convert("RGB").getcolors(MAX_MASK_COLOURS) is not None


def stem(name: str) -> str:
    """The key of photos and masks: a POSIX path without suffix, in Unicode's composed form."""
    name = composed(name)
    head, _, suffix = name.rpartition(".")
    # twenty times faster than pathlib, for sets of a hundred thousand files
    return name if not head or head.endswith("/") or "/" in suffix else head


def without_ending(name: str) -> str:
    """A stem without the ending of a mask; a stem that consists of the ending is returned unchanged."""
    match = _ENDED.search(name)
    shortened = name[: match.start()] if match else ""
    return shortened if shortened and not shortened.endswith("/") else name


def _distance(mask: PurePosixPath, image: PurePosixPath) -> tuple[Any, ...]:
    """Sort key of the images that match a mask: the same directory first, then a directory of the same name."""
    return mask.parent != image.parent, mask.parent.name != image.parent.name, natural_key(str(image))


def _below(name: str, directories: frozenset[str]) -> bool:
    """Whether a file is in a directory of one of these names."""
    return any(folder.lower() in directories for folder in name.split("/")[:-1])


def _binary(source: str | os.PathLike[str] | np.ndarray | Image.Image) -> Bool[np.ndarray, "h w"]:
    """The mask at its original size."""
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.size == 0:
            raise UnreadableImageError("array", f"expected a mask [h, w], got {list(source.shape)}")
        return np.nan_to_num(source) > 0
    decoded = Decoded.of(source) if isinstance(source, Image.Image) else decode(os.fspath(source))
    values = _values(decoded.image)
    blurred = decoded.format in ("JPEG", "MPO")
    return values > ((float(values.min()) + float(values.max())) / 2 if blurred else 0)


def _values(image: Image.Image) -> Real[np.ndarray, "h w"]:
    """Brightness of the visible pixels; the alpha channel if all visible pixels have one colour."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.nan_to_num(np.asarray(image))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")).max(axis=-1)
    pixels = np.asarray(image.convert("RGBA"))
    colours, alpha = pixels[..., :3].max(axis=-1), pixels[..., 3]
    visible = alpha > 0
    of_one_colour = visible.any() and len(np.unique(colours[visible])) == 1
    return alpha if of_one_colour and not visible.all() else np.where(visible, colours, np.uint8(0))
