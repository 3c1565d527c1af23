"""Masks: found by their names, told from photographs, and read whatever way they say what is anomalous."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from codegraph_jax.core.names import composed
from codegraph_jax.data.formats import is_image_name
from codegraph_jax.data.images import RESAMPLE, UnreadableImage, decode
from codegraph_jax.data.search import find_images, natural_key

ENDING = re.compile(r"[ _.-]?(mask|masks|gt|label|labels|seg|segmentation|ground[ _-]?truth)", re.IGNORECASE)
"""What the stem of a mask ends with, beyond that of its image."""
_ENDED = re.compile(rf"(?:{ENDING.pattern})$", re.IGNORECASE)
DIRECTORIES = frozenset(
    {
        "ground_truth", "groundtruth", "gt", "mask", "masks", "label", "labels", "annotations", "segmentation",
        "segmentations", "segmentationclass", "segmentationclasspng", "segmentationclassraw", "segmentationobject",
        "segmentationobjectpng", "masks_machine", "semantic", "instance", "instances", "panoptic",
    }
)  # fmt: skip
"""Directories that hold masks, those of the exports of CVAT, labelme and Pascal VOC included; in lower case."""
DRAWINGS = frozenset(
    {
        "visualization", "visualizations", "segmentationclassvisualization", "segmentationobjectvisualization",
        "masks_human", "overlay", "overlays",
    }
)  # fmt: skip
"""Directories in which annotation tools draw masks over the photographs; in lower case."""
LABELME = {"label": True, "label_viz": False}
"""What labelme writes beside the copy `img` of a photograph, by its stem, and whether it is a mask."""
FEW_COLOURS = 64
"""Colours of a mask with a colour for each class or object, at most; photographs have thousands."""
LOOKED_AT = 5
"""Files of a directory that are looked at before all of them are, at most."""
ALIKE = 0.9
"""Share of the files of a directory with the stems of photographs elsewhere from which on it may hold masks."""
MOST_STEPS = 50
"""Towards the value between dark and bright; a handful does."""
TWO_VALUES = 0.98
"""Share of a mask's pixels that are near its darkest or brightest value; photographs stay far below."""


def load_mask(
    source: str | os.PathLike[str] | np.ndarray | Image.Image,
    size: int | tuple[int, int] | None,
    rule: str = "nearest",
    inverted: bool = False,
) -> Bool[np.ndarray, "h w"]:
    """Reads a mask as True where anomalous, and resizes it.

    Any value above 0 is anomalous: masks with 0 and 255, with 0 and 1, with a value a kind of defect. Of a file that
    its compression blurs (JPEG), values are that lie nearer to the bright ones than to the dark ones. Where all colours
    are the same and transparency has the shape, what can be seen is anomalous. EXIF orientation is applied, so that a
    mask stays on its photograph.

    Args:
        source: a file, a directory of mask files whose union counts, or an array [h, w].
        size: side to resize to, or (height, width); None keeps the mask's own.
        rule: how a resized pixel is decided. "nearest": by nearest-neighbour resizing. "full": by bilinear resizing of
            0 and 255, anomalous where exactly 255 is left (MuSc's code casts to int, for MVTec AD and BTAD).
            "any": the same resizing, anomalous where anything is left (MuSc's for VisA).
        inverted: black marks what is anomalous.

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
        parts = [_binary(file) != inverted for file in files]
        if len({part.shape for part in parts}) > 1:
            raise UnreadableImage(os.fspath(source), "its mask images differ in size")
        binary = np.logical_or.reduce(parts)
    else:
        binary = _binary(source) != inverted
    if size is None:
        return binary
    image = Image.fromarray(binary.astype(np.uint8) * 255)
    kind = "nearest" if rule == "nearest" else "bilinear"
    height, width = (size, size) if isinstance(size, int) else size
    resized = np.asarray(image.resize((width, height), RESAMPLE[kind]))
    return resized == 255 if rule == "full" else resized > 0


def mask_index(truth: str) -> dict[str, str]:
    """{path of the image below the test directory, without suffix: its mask file or directory of mask files}.

    A mask has the image's own stem, or that and one of the usual endings (`_mask`, `_GT`, `-label`); a directory that
    is named by the stem holds several.
    """
    if not Path(truth).is_dir():
        return {}
    found = find_images(truth)
    index: dict[str, str] = {}
    for name, path in found.items():
        if name.count("/") > 1:
            index.setdefault(composed(name.rsplit("/", 1)[0]), str(Path(path).parent))
    for name, path in found.items():
        index.setdefault(without_ending(stem(name)), path)
    # a mask that has an image's whole stem belongs to that image, whatever the stem ends with
    return index | {stem(name): path for name, path in found.items()}


def masks_among(images: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Which of some image files show no part: ({name of a mask: name of its photograph}, names of drawings).

    Masks are told by the name (a photograph's stem with an ending, or the same stem in a directory of masks or in any
    other whose files have the stems of photographs), and by the look: nearly all pixels have one of two values, or few
    colours occur. Drawings, which annotation tools make of photographs and masks, are told by their directory.

    Args:
        images: {posix path below the root: file}.
    """
    named = {name: _Named.of(name) for name in images}
    by_stem: dict[str, list[str]] = {}
    for name, key in named.items():
        by_stem.setdefault(key.stem, []).append(name)
    suspects = _suspicious_directories(images, named, by_stem)
    masks, drawings = {}, []
    for name, key in named.items():
        if key.stem in LABELME and (copy := _beside(name, "img", named, by_stem)):
            if not LABELME[key.stem]:
                drawings.append(name)
            elif looks_like_mask(images[name]):
                masks[name] = copy
            continue
        suspicious = key.kept_apart or key.directory in suspects
        stems = {key.bare, key.stem} if suspicious else {key.bare} - {key.stem}
        partners = [
            other
            for one in sorted(stems)
            for other in by_stem.get(one, ())
            if other != name and not named[other].kept_apart and named[other].directory not in suspects
        ]
        if not partners:
            continue
        if _drawn(name):
            drawings.append(name)
        elif looks_like_mask(images[name]):
            masks[name] = min(partners, key=lambda other: _distance(PurePosixPath(name), PurePosixPath(other)))
    return masks, drawings


@dataclass(frozen=True)
class _Named:
    """The parts of a file's name: its directory, its stem, and the stem without an ending of masks."""

    directory: str
    stem: str
    bare: str
    kept_apart: bool

    @classmethod
    def of(cls, name: str) -> "_Named":
        directory, _, own = stem(name).rpartition("/")
        return cls(directory, own, without_ending(own), _kept_apart(name))


def _suspicious_directories(
    images: Mapping[str, str], named: Mapping[str, _Named], by_stem: Mapping[str, list[str]]
) -> set[str]:
    """Directories of any name whose files have the stems of photographs elsewhere and look like masks.

    The photographs must not: pictures in black and white are no masks of each other.
    """
    inside: dict[str, list[tuple[str, str | None]]] = {}
    for name, key in named.items():
        # the first is enough: a hundred thousand files may share a few stems
        elsewhere = (
            other
            for one in dict.fromkeys((key.stem, key.bare))
            for other in by_stem.get(one, ())
            if named[other].directory != key.directory and not named[other].kept_apart
        )
        inside.setdefault(key.directory, []).append((name, next(elsewhere, None)))
    found = set()
    for directory, files in inside.items():
        paired = [(name, other) for name, other in files if other]
        if not paired or len(paired) < ALIKE * len(files) or named[files[0][0]].kept_apart:
            continue
        some = paired[:: -(-len(paired) // LOOKED_AT)]
        # the first file settles it for most directories
        if all(looks_like_mask(images[name]) for name, _ in some) and not all(
            looks_like_mask(images[other]) for _, other in some
        ):
            found.add(directory)
    return found


def _beside(name: str, wanted: str, named: Mapping[str, _Named], by_stem: Mapping[str, list[str]]) -> str | None:
    """The file of a stem in the directory of another file."""
    beside = (other for other in by_stem.get(wanted, ()) if named[other].directory == named[name].directory)
    return next(beside, None)


def looks_like_mask(path: str) -> bool:
    """Whether nearly all pixels of an image file have one of two values, or it has few colours.

    A file that cannot be decoded does not.
    """
    try:
        image = decode(path)
        values = _values(image)
    except UnreadableImage:
        return False
    low, high = float(values.min()), float(values.max())
    near = 0.1 * (high - low)
    if np.mean((values <= low + near) | (values >= high - near)) >= TWO_VALUES:
        return True
    return image.convert("RGB").getcolors(FEW_COLOURS) is not None


def stem(name: str) -> str:
    """The key of photographs and masks: a posix path without its suffix, in Unicode's composed form."""
    name = composed(name)
    head, _, suffix = name.rpartition(".")
    # pathlib does the same twenty times slower, which is felt with a hundred thousand names
    return name if not head or head.endswith("/") or "/" in suffix else head


def without_ending(name: str) -> str:
    """A stem without what marks a mask; nothing but a mark stays."""
    match = _ENDED.search(name)
    bare = name[: match.start()] if match else ""
    return bare if bare and not bare.endswith("/") else name


def _distance(mask: PurePosixPath, image: PurePosixPath) -> tuple[Any, ...]:
    """Of images with a mask's stem the one in its own directory comes first, then in one of the same name."""
    return mask.parent != image.parent, mask.parent.name != image.parent.name, natural_key(str(image))


def _kept_apart(name: str) -> bool:
    """Whether a file lies in a directory of masks, or of drawings."""
    return any(part.lower() in DIRECTORIES or part.lower() in DRAWINGS for part in name.split("/")[:-1])


def _drawn(name: str) -> bool:
    """Whether a file lies in a directory of drawings."""
    return any(part.lower() in DRAWINGS for part in name.split("/")[:-1])


def _binary(source: str | os.PathLike[str] | np.ndarray | Image.Image) -> Bool[np.ndarray, "h w"]:
    """The mask at its own size."""
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.size == 0:
            raise UnreadableImage("array", f"expected a mask [h, w], got {list(source.shape)}")
        return np.nan_to_num(source) > 0
    image = source if isinstance(source, Image.Image) else decode(os.fspath(source))
    values = _values(image)
    blurred = image.info.get("format") in ("JPEG", "MPO")
    return values > (_midway(values) if blurred else 0)


def _midway(values: np.ndarray) -> float:
    """A value in the middle between those of the dark and of the bright pixels (Ridler and Calvard, 1978)."""
    threshold = float(values.mean())
    for _ in range(MOST_STEPS):
        dark, bright = values[values <= threshold], values[values > threshold]
        if not len(bright):
            break
        threshold, former = (float(dark.mean()) + float(bright.mean())) / 2, threshold
        if abs(threshold - former) < 1e-3:
            break
    return threshold


def _values(image: Image.Image) -> UInt8[np.ndarray, "h w"] | Float[np.ndarray, "h w"]:
    """What tells anomalous pixels: brightness of what can be seen, or what can be seen where all is of one colour."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.nan_to_num(np.asarray(image))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")).max(axis=-1)
    pixels = np.asarray(image.convert("RGBA"))
    colours, alpha = pixels[..., :3].max(axis=-1), pixels[..., 3]
    visible = alpha > 0
    of_one_colour = visible.any() and len(np.unique(colours[visible])) == 1
    return alpha if of_one_colour and not visible.all() else np.where(visible, colours, np.uint8(0))
