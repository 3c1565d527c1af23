"""Layouts of directories: MVTec AD's form, which most published data sets have, and a plain folder of photos."""

import difflib
import logging
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from codegraph_jax.core.names import composed
from codegraph_jax.data.masks import mask_index, masks_among, stem
from codegraph_jax.data.samples import Categories, Sample, label_by_type, warn_missing_masks
from codegraph_jax.data.search import LayoutError, find_images, folder_name, subdirectories

logger = logging.getLogger(__name__)

GOOD_NAMES = ("good", "ok", "normal", "pass", "passed", "negative", "clean", "intact", "fine", "defect-free", "io")
"""Common names of types of good parts, for suggestions in messages."""


def read_mvtec_form(
    root: str,
    good: Sequence[str] = (),
    default_good: Sequence[str] = ("good",),
    test_folder: str = "test",
    mask_folder: str = "ground_truth",
) -> Categories:
    """Categories of the form `<category>/test/<type>/<image>`, with masks `ground_truth/<type>/<stem>_mask.png`.

    The root holds categories, or is a category; `test_folder` and `mask_folder` are the names of the folders in it. A
    mask may also have the image's stem or another usual ending, any image suffix, lie beside the image, or be a
    directory named after the stem. Images directly in `test` have no label. `good` names the types of good parts;
    without it they are `default_good`, as in the published data set, and in a category without any of these, only
    images with a mask have a label.

    Raises:
        LayoutError: a type of `good` exists in no category.
    """
    base = Path(root)
    if (base / test_folder).is_dir():
        folders = {folder_name(root): base}
    else:
        folders = {name: base / name for name in subdirectories(root)}
    folders = {category: folder for category, folder in folders.items() if (folder / test_folder).is_dir()}
    types = {name for folder in folders.values() for name in subdirectories(str(folder / test_folder))}
    _require_types(good, types, root)
    return {
        category: partial(
            _mvtec_samples,
            category,
            str(folder / test_folder),
            str(folder / mask_folder),
            frozenset(map(composed, good or default_good)),
            bool(good),
        )
        for category, folder in folders.items()
    }


def read_folder(root: str, good: Sequence[str] = ()) -> Categories:
    """Any folder of images, flat or nested, or a single image: one category named after the folder.

    Images have labels only if `good` names the folders directly below the root that hold good parts; all other
    folders then hold defective parts. Masks among the photos are recognised.

    Raises:
        LayoutError: a folder of `good` does not exist.
    """
    if Path(root).is_file():
        category = folder_name(str(Path(root).parent))
        return {category: lambda: [Sample(root, Path(root).name, category)]}
    category = folder_name(root)
    _require_types(good, set(subdirectories(root)), root)
    return {category: partial(_folder_samples, category, root, frozenset(map(composed, good)))}


def read_auto(root: str, good: Sequence[str] = ()) -> Categories:
    """MVTec AD's form if the root or a folder directly below it has a folder `test`, otherwise any folder."""
    folders = [Path(root), *(Path(root) / name for name in (subdirectories(root) if Path(root).is_dir() else ()))]
    in_form = any((folder / "test").is_dir() for folder in folders)
    return read_mvtec_form(root, good) if in_form else read_folder(root, good)


def _folder_samples(category: str, root: str, good: frozenset[str]) -> list[Sample]:
    images, masks = _without_masks(category, find_images(root))
    return [
        Sample(
            path,
            name,
            category,
            label=label_by_type(photo_type, good),
            mask=masks.get(stem(name)) if photo_type not in good else None,
            photo_type=photo_type if good else None,
        )
        for name, path in images.items()
        for photo_type in [_photo_type(name)]
    ]


def _mvtec_samples(
    category: str, test_folder: str, mask_folder: str, good: frozenset[str], good_is_given: bool
) -> list[Sample]:
    # MVTec AD 2 has its masks inside the test directory
    files = find_images(test_folder)
    images = {name: path for name, path in files.items() if not path.startswith(mask_folder + os.sep)}
    images, beside = _without_masks(category, images)
    masks = beside | mask_index(mask_folder)
    types = {photo_type for name in images if (photo_type := _photo_type(name)) is not None}
    known = bool(types & good) or good_is_given
    if types and not known:
        _warn_no_normal(category, types, good)
    samples, missing = [], 0
    for name, path in images.items():
        photo_type, mask = _photo_type(name), masks.get(stem(name))
        if photo_type is None or (not known and mask is None):
            samples.append(Sample(path, name, category, photo_type=photo_type))
        elif photo_type in good:
            samples.append(Sample(path, name, category, 0, None, photo_type))
        else:
            missing += mask is None
            samples.append(Sample(path, name, category, 1, mask, photo_type))
    warn_missing_masks(category, missing)
    return samples


def _photo_type(name: str) -> str | None:
    """The type of an image: its topmost directory."""
    return composed(name.split("/", 1)[0]) if "/" in name else None


def _without_masks(category: str, images: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(photos by name, masks among them by the image's name without suffix)."""
    masks, overlays = masks_among(images)
    if masks:
        logger.warning(
            "%s: %d files are masks of other files by name and content (the first: %r); they are not inspected",
            category, len(masks), next(iter(masks)),
        )  # fmt: skip
    if overlays:
        logger.warning(
            "%s: %d files are photos with masks drawn on them by an annotation tool (the first: %r); they are not "
            "inspected",
            category, len(overlays), overlays[0],
        )  # fmt: skip
    mask_of: dict[str, str] = {}
    for mask, image in masks.items():
        # class masks come before object masks, and are preferred
        mask_of.setdefault(stem(image), images[mask])
    skipped = {*masks, *overlays}
    return {name: path for name, path in images.items() if name not in skipped}, mask_of


def _require_types(good: Sequence[str], present: set[str], root: str) -> None:
    known = set(map(composed, present))
    if unknown := [name for name in good if composed(name) not in known]:
        held = ", ".join(map(repr, sorted(present)[:40])) or "none"
        raise LayoutError(f"config.data.good: no folder {', '.join(map(repr, unknown))} in {root!r} (it holds {held})")


def _warn_no_normal(category: str, types: set[str], good: frozenset[str]) -> None:
    likely = [name for name in sorted(types) if re.sub("[_ ]", "-", name.lower()) in GOOD_NAMES]
    example = likely or difflib.get_close_matches("good", sorted(types), n=1) or sorted(types)[:1]
    logger.warning(
        "%s: there is no folder %s (there are %s), so only images with a mask have a label; name the folders of good "
        "parts with --good=%s",
        category, " or ".join(sorted(good)), ", ".join(sorted(types)), ",".join(example),
    )  # fmt: skip
