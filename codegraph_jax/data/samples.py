"""What every layout is made of: samples, the search for image files, and the directory form of MVTec AD."""

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from codegraph_jax.core.errors import UserError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class LayoutError(UserError):
    """The files under a root are not what the layout expects, or there are none."""


@dataclass(frozen=True)
class Sample:
    """One image of a set and what is known about it."""

    path: str
    """The image file. Bytes that are not UTF-8 are kept by surrogate escapes, as `os.fsencode` undoes them."""
    name: str
    """Posix path below the category, unique within it: `broken_large/000.png`."""
    category: str
    label: int | None = None
    """0 normal, 1 anomalous, None unknown."""
    mask: str | None = None
    """Mask file, or a directory of mask files whose union counts; None for normal, unknown or missing."""
    defect: str | None = None
    """Kind of defect, or `good`; None where the layout does not tell."""
    read: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)
    """Gives the pixels where no file holds them, and `path` is but a name; see `images.StoredImage`."""


Categories = dict[str, Callable[[], list[Sample]]]
"""The categories that a root holds, each with the function that lists its samples."""


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key that orders `img2` before `img10`, by code point otherwise: the same on every machine and locale."""
    parts: list[str | tuple[int, str]] = list(re.split("([0-9]+)", name))
    for i in range(1, len(parts), 2):
        digits = str(parts[i]).lstrip("0")
        # the length first: compares numbers of any size without converting them
        parts[i] = (len(digits), digits)
    return parts, name


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image; hidden files (`._001.jpg`) do not."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def subdirectories(directory: str) -> list[str]:
    """Names of the visible directories in `directory` in natural order; none if it cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if not _hidden(e.name) and _is_directory(e)]
    except OSError:
        return []
    return sorted(names, key=natural_key)


def find_images(root: str) -> dict[str, str]:
    """All image files below `root`, however deep: {posix path below root: file}, in natural order.

    Links to directories are followed, and every real directory is visited once, so loops end. A directory that cannot
    be listed is left out with a warning; a link that leads nowhere stays, to be reported when it is read.

    Raises:
        LayoutError: `root` itself cannot be listed.
    """
    found: dict[str, str] = {}
    visited: set[tuple[int, int]] = set()
    refused: list[str] = []
    pending: list[tuple[str, str]] = [("", root)]
    links: list[tuple[str, str]] = []
    while pending or links:
        if not pending:
            # links wait until all real directories are done: a file is named by its real place if it has one here
            links.sort(key=lambda link: natural_key(link[0]), reverse=True)
            pending.append(links.pop())
        prefix, directory = pending.pop()
        try:
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if _is_directory(entry):
                        (links if entry.is_symlink() else pending).append((f"{prefix}{entry.name}/", entry.path))
                    elif is_image_name(entry.name):
                        found[prefix + entry.name] = entry.path
        except (OSError, ValueError) as error:  # ValueError: a NUL in the root
            if not prefix:
                raise LayoutError(f"data.root: cannot list {root!r}: {error}") from None
            refused.append(directory)
    if refused:
        logger.warning("%d directories cannot be listed and were left out, the first: %r", len(refused), refused[0])
    return {name: found[name] for name in sorted(found, key=natural_key)}


def folder_name(root: str) -> str:
    """The name of a directory even where it is given as `.` or with a slash at its end."""
    return Path(os.path.realpath(root)).name or "images"


def read_mvtec_form(
    root: str,
    normal: Iterable[str] = ("good",),
    test: str = "test",
    truth: str = "ground_truth",
) -> Categories:
    """Categories of the form `<category>/<test>/<type>/<image>` with masks `<category>/<truth>/<type>/<stem>_mask.png`.

    The root may hold categories or be one. A mask may also have the image's own stem, any image suffix, or be a
    directory named by the stem. Images that lie directly in `<test>` are taken without a label.

    Args:
        root: the data set's directory.
        normal: the types that are not defects.
        test: directory of the test images below the category.
        truth: directory of the masks below the category.
    """
    base = Path(root)
    if (base / test).is_dir():
        homes = {folder_name(root): base}
    else:
        homes = {name: base / name for name in subdirectories(root)}
    kinds = frozenset(normal)
    return {
        category: partial(_mvtec_samples, category, str(home / test), str(home / truth), kinds)
        for category, home in homes.items()
        if (home / test).is_dir()
    }


def warn_missing_masks(category: str, count: int) -> None:
    """Says how many anomalous images have no mask: pixel metrics cannot use them."""
    if count:
        logger.warning("%s: %d anomalous images have no mask file", category, count)


def _mvtec_samples(category: str, test: str, truth: str, normal: frozenset[str]) -> list[Sample]:
    masks = _mask_index(truth)
    samples, missing = [], 0
    for name, path in find_images(test).items():
        if path.startswith(truth + os.sep):
            continue
        kind = name.split("/", 1)[0] if "/" in name else None
        if kind is None:
            samples.append(Sample(path, name, category))
        elif kind in normal:
            samples.append(Sample(path, name, category, 0, None, kind))
        else:
            mask = masks.get(str(PurePosixPath(name).with_suffix("")))
            missing += mask is None
            samples.append(Sample(path, name, category, 1, mask, kind))
    warn_missing_masks(category, missing)
    return samples


def _mask_index(truth: str) -> dict[str, str]:
    """{path of the image below the test directory, without suffix: its mask file or directory of mask files}."""
    if not Path(truth).is_dir():
        return {}
    index: dict[str, str] = {}
    for name, path in find_images(truth).items():
        if name.count("/") > 1:
            index.setdefault(name.rsplit("/", 1)[0], str(Path(path).parent))
        index[str(PurePosixPath(name).with_suffix("")).removesuffix("_mask")] = path
    return index


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
