"""Searches for image files; skips other files, thumbnails, and images that runs of this project have written."""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import written_files
from codegraph_jax.core.names import printable, some_of
from codegraph_jax.data.formats import PICTURES, is_image_name, listed_suffixes

logger = logging.getLogger(__name__)

STORES = frozenset(
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
        stores: directories of thumbnails and deleted files, which were not searched.
        refused: directories that cannot be listed.
    """

    suffixes: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    stores: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

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
        if self.stores:
            lines.append(f"skipped: {_several(self.stores)} (thumbnails or deleted files)")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The entry in manifest.json."""
        return {
            "suffixes": dict(sorted(self.suffixes.items())),
            "written_by_runs": dict(sorted(self.written.items())),
            "directories": sorted(self.stores),
            "cannot_be_listed": sorted(self.refused),
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
    found, skipped = walk(root)
    if refused := skipped.refused:
        logger.warning("%d directories cannot be listed and were skipped, the first: %r", len(refused), refused[0])
    return found


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
        total.stores += skipped.stores
        total.refused += skipped.refused
    return total


def folder_name(root: str) -> str:
    """The name of a directory, also if it is given as `.` or with a trailing slash."""
    return Path(os.path.realpath(root)).name or "images"


def walk(root: str) -> tuple[dict[str, str], SkippedFiles]:
    """`find_images` without warnings, and everything that it skips; errors as for `find_images`."""
    state = _Walk([("", root)])
    while state.pending or state.links:
        if not state.pending:
            # links come after all real directories, so that a file gets its real path if that is below the root
            state.links.sort(key=lambda link: natural_key(link[0]), reverse=True)
            state.pending.append(state.links.pop())
        prefix, directory = state.pending.pop()
        try:
            state.visit(prefix, directory)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the root
            if not prefix:
                raise LayoutError(f"config.data.root: cannot list {root!r}: {error}") from None
            state.skipped.refused.append(directory)
    found, skipped = state.found, state.skipped
    skipped.suffixes = +skipped.suffixes
    return {name: found[name] for name in sorted(found, key=natural_key)}, skipped


@dataclass
class _Walk:
    """The state of a search; directories to visit are (prefix of names, path)."""

    pending: list[tuple[str, str]]
    links: list[tuple[str, str]] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)
    skipped: SkippedFiles = field(default_factory=SkippedFiles)
    own: dict[str, str] = field(default_factory=dict)
    """Directories of runs by the files that the runs have written."""
    visited: set[tuple[int, int]] = field(default_factory=set)

    def visit(self, prefix: str, directory: str) -> None:
        """Sorts the entries of a directory that was not visited before.

        Raises:
            OSError, ValueError: the directory cannot be listed.
        """
        status = Path(directory).stat()
        # st_ino is 0 on file systems without inodes
        if status.st_ino and (status.st_dev, status.st_ino) in self.visited:
            return
        self.visited.add((status.st_dev, status.st_ino))
        self.own |= {os.path.join(directory, name): directory for name in written_files(directory)}  # noqa: PTH118
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not _is_directory(entry):
                    self._add_file(prefix, entry)
                elif _hidden(entry.name):
                    self.skipped.stores.append(entry.path)
                else:
                    target = self.links if entry.is_symlink() else self.pending
                    target.append((f"{prefix}{entry.name}/", entry.path))

    def _add_file(self, prefix: str, entry: os.DirEntry[str]) -> None:
        if not is_image_name(entry.name):
            self.skipped.suffixes[PurePath(entry.name).suffix.lower()] += entry.path not in self.own
        elif entry.path in self.own:
            self.skipped.written[self.own[entry.path]] += 1
        else:
            self.found[prefix + entry.name] = entry.path


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in STORES


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _several(paths: Sequence[str]) -> str:
    return some_of([printable(path) for path in sorted(paths)], 1)
