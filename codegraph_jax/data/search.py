"""Searches for image files; skips other files, thumbnails, and images that runs of this project have written."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import written_files
from codegraph_jax.core.names import printable, some_of
from codegraph_jax.data.formats import PICTURES, is_image_name, listed_suffixes

logger = logging.getLogger(__name__)

SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
"""Directories of thumbnails and deleted files, in addition to hidden directories."""


class LayoutError(UserError):
    """The images of a set are missing, or do not have the expected form; the message names the place and what to do."""


@dataclass
class SkippedFiles:
    """Files and directories that the search has skipped.

    Attributes:
        suffixes: number of visible files that are not images, by suffix in lower case with the dot.
        written: number of images that a run has written, by directory of the run.
        system_folders: directories of thumbnails and deleted files, which were not searched.
        cannot_be_listed: directories that cannot be listed.
    """

    suffixes: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    system_folders: list[str] = field(default_factory=list)
    cannot_be_listed: list[str] = field(default_factory=list)

    def lines(self, all_suffixes: bool) -> list[str]:
        """Messages about the skipped files.

        Args:
            all_suffixes: whether to list all files that are not images; otherwise only images that cannot be read.
        """
        lines = []
        named = {s: count for s, count in self.suffixes.items() if all_suffixes or s in PICTURES}
        if named:
            lines.append(f"skipped, not readable as images: {listed_suffixes(named)}")
        if self.written:
            count = sum(self.written.values())
            lines.append(f"skipped: {count} pictures that earlier runs have written into {_several([*self.written])}")
        if self.system_folders:
            lines.append(f"skipped: {_several(self.system_folders)} (thumbnails or deleted files)")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The entry in manifest.json."""
        return {
            "suffixes": dict(sorted(self.suffixes.items())),
            "written_by_runs": dict(sorted(self.written.items())),
            "directories": sorted(self.system_folders),
            "cannot_be_listed": sorted(self.cannot_be_listed),
        }


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key that orders `img2` before `img10`, otherwise by code point; independent of the locale."""
    parts: list[str | tuple[int, str]] = list(re.split("([0-9]+)", name))
    for i in range(1, len(parts), 2):
        digits = str(parts[i]).lstrip("0")
        # comparing the length first avoids converting long numbers
        parts[i] = (len(digits), digits)
    return parts, name


def subdirectories(directory: str) -> list[str]:
    """Names of the visible subdirectories in natural order; empty if the directory cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if not _hidden(e.name) and _is_directory(e)]
    except OSError:
        return []
    return sorted(names, key=natural_key)


def find_images(root: str) -> dict[str, str]:
    """All image files below `root`, however deep: {posix path below root: file}, in natural order.

    Links to directories are followed, and every directory is visited once, so that loops end. A directory that cannot
    be listed is skipped with a warning; a broken link is listed, and reported when it is read. Images that a run of
    this project has written and directories of thumbnails are skipped.

    Raises:
        LayoutError: `root` itself cannot be listed.
    """
    images, skipped = walk(root)
    if failed := skipped.cannot_be_listed:
        logger.warning("%d directories cannot be listed and were skipped, the first: %r", len(failed), failed[0])
    return images


def skipped_below(roots: Sequence[str]) -> SkippedFiles:
    """Everything that `find_images` skips below some directories; roots that cannot be listed are ignored."""
    total = SkippedFiles()
    for root in roots:
        try:
            _, skipped = walk(root)
        except LayoutError:
            continue
        total.suffixes += skipped.suffixes
        total.written += skipped.written
        total.system_folders += skipped.system_folders
        total.cannot_be_listed += skipped.cannot_be_listed
    return total


def folder_name(root: str) -> str:
    """The name of a directory, also if it is given as `.` or with a trailing slash."""
    return Path(os.path.realpath(root)).name or "images"


def walk(root: str) -> tuple[dict[str, str], SkippedFiles]:
    """`find_images` without warnings, and everything that it skips; errors as for `find_images`."""
    images: dict[str, str] = {}
    skipped = SkippedFiles()
    run_of: dict[str, str] = {}  # directories of runs by the files that the runs have written
    try:
        for directory, files in _directories(root, skipped):
            prefix = "" if directory == root else f"{PurePath(directory).relative_to(root).as_posix()}/"
            run_of |= {os.path.join(directory, name): directory for name in written_files(directory)}  # noqa: PTH118
            for name in files:
                path, is_image = os.path.join(directory, name), is_image_name(name)  # noqa: PTH118
                if is_image and path in run_of:
                    skipped.written[run_of[path]] += 1
                elif is_image:
                    images[prefix + name] = path
                elif path not in run_of:
                    skipped.suffixes[PurePath(name).suffix.lower()] += 1
    except (OSError, ValueError, RecursionError) as error:  # ValueError: a NUL in the root
        raise LayoutError(f"config.data.root: cannot list {root!r}: {error}") from None
    return {name: images[name] for name in sorted(images, key=natural_key)}, skipped


def _directories(root: str, skipped: SkippedFiles) -> Iterator[tuple[str, list[str]]]:
    """Every visible directory below the root, each once, with its visible files."""
    starts = [root]
    visited: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        if error.filename == root:
            raise error
        skipped.cannot_be_listed.append(error.filename)

    while starts:
        # links come after all real directories, so that a file gets its real path if that is below the root
        starts.sort(key=lambda start: natural_key(f"{start}/"), reverse=True)
        for directory, names, files in os.walk(starts.pop(), onerror=refuse):
            try:
                status = Path(directory).stat()
            except OSError as error:  # it was removed in the meantime
                refuse(error)
                continue
            # st_ino is 0 on file systems without inodes
            if status.st_ino and (status.st_dev, status.st_ino) in visited:
                names.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            named = {name: os.path.join(directory, name) for name in names}  # noqa: PTH118
            skipped.system_folders += [path for name, path in named.items() if name.lower() in SYSTEM_FOLDERS]
            names[:] = [name for name in names if not _hidden(name)]
            # `Path.is_symlink` would raise if a directory is readable but not searchable (mode 744)
            starts += [named[name] for name in names if os.path.islink(named[name])]  # noqa: PTH114
            yield directory, [name for name in files if not name.startswith(".")]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _several(paths: Sequence[str]) -> str:
    return some_of([printable(path) for path in sorted(paths)], 1)
