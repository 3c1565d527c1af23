"""Which files of a directory runs of this project have written: these may be removed, and are nobody's photographs.

The list lies beside the files. It names a file before it is written, so that no interruption leaves one unlisted.
"""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import PARTIAL, write_json

LISTING = ".written.json"
MAX_BYTES = 256 * 2**20
"""Far above the list of any run."""

RESULTS = (
    "scores.csv", "scores.json", "metrics.json", "regions.json", "regions.csv", "coco.json", "communities.json",
    "duplicates.json", "maps.npz", "report.html", "manifest.json",
)  # fmt: skip
"""The files of a detection or inspection run that lie in the workdir itself."""


class ForeignFile(UserError):
    """A file that a run would replace is none that a run has written."""


def written_files(directory: str | os.PathLike[str]) -> frozenset[str]:
    """Paths below `directory`, with the system's separator, of what runs have written there; empty without a run."""
    return frozenset(os.path.normpath(name) for name in _listed(Path(directory) / LISTING))


def note_written(workdir: Path, names: Iterable[str]) -> None:
    """Adds files that are about to be written to the list.

    Args:
        workdir: held by this run alone.
        names: posix paths below it.
    """
    _write(workdir, {*map(_posix, written_files(workdir)), *names})


def replace_written(workdir: Path, names: Iterable[str]) -> None:
    """Removes what earlier runs have written and this one will not, and notes what is about to be written.

    Nothing else is touched; directories that become empty go too.

    Args:
        workdir: held by this run alone.
        names: posix paths below it of all files that this run has written or will write.
    """
    planned, former = set(names), {_posix(name) for name in written_files(workdir)}
    _write(workdir, planned | former)
    for name in sorted(former - planned):
        _remove(workdir, name)
    _write(workdir, planned)


def require_own(workdir: Path, names: Iterable[str]) -> None:
    """Refuses to replace what no run has written.

    Args:
        workdir: held by this run alone.
        names: posix paths below it that this run will write.

    Raises:
        ForeignFile: the first of `names` that is there already and is on no list.
    """
    own = {_posix(name) for name in written_files(workdir)}
    for name in names:
        if name not in own and os.path.lexists(workdir / name):
            raise ForeignFile(
                f"{workdir / name}: would be replaced, and no detection has written it; choose another --workdir"
            )


def move_written(workdir: Path, place: Path, names: Sequence[str], last: str) -> None:
    """Moves files that runs have written into another directory, with a list of their own.

    Args:
        workdir: held by this run alone.
        place: below the workdir; made here.
        names: posix paths below the workdir; those that are not there are passed over.
        last: the file that says that the others are whole: it leaves first and arrives last.
    """
    place.mkdir(parents=True)
    _write(place, {*names, last})
    waiting = place / f"{PARTIAL}{last}"
    (workdir / last).replace(waiting)
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (workdir / name).replace(place / name)
        _remove(workdir, name)
    waiting.replace(place / last)
    _write(workdir, {_posix(name) for name in written_files(workdir)} - {*names, last})


def forget_written(directory: Path) -> None:
    """Removes everything that runs have written into a directory, and the directory where nothing else is in it."""
    replace_written(directory, ())
    (directory / LISTING).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _remove(workdir: Path, name: str) -> None:
    """One file, and the directories below the workdir that it leaves empty."""
    path = workdir / name
    with suppress(IsADirectoryError, PermissionError, FileNotFoundError, NotADirectoryError):
        path.unlink()
    for place in path.parents:
        if place == workdir:
            return
        try:
            place.rmdir()
        except OSError:  # not empty, or not there
            return


def _write(workdir: Path, names: Iterable[str]) -> None:
    write_json(workdir / LISTING, {"files": sorted(names)})


def _posix(name: str) -> str:
    return Path(name).as_posix()


def _listed(path: Path) -> list[str]:
    """The names on a list that lead nowhere else."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        files = json.loads(path.read_text(encoding="ascii"))["files"]
        return [name for name in files if isinstance(name, str) and _stays_below(name)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _stays_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not Path(name).is_absolute() and ".." not in path.parts
