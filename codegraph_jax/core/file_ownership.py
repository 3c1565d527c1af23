"""Keeps a list of the files that this program has written into a directory; only these may be replaced or removed.

The list is stored beside the files. A file is listed before it is written, so that an interruption leaves none
unlisted.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import PARTIAL, read_json, write_json
from codegraph_jax.core.workdir import locked, written_to

LISTING = ".written.json"


class ForeignFileError(UserError):
    """A run would replace a file that no run has written."""


def written_files(directory: str | os.PathLike[str]) -> frozenset[str]:
    """Paths below `directory` of the files that runs have written, with the system's separator."""
    return frozenset(map(os.path.normpath, _written(Path(directory))))


def note_written(workdir: Path, names: Iterable[str]) -> None:
    """Adds files, given as POSIX paths below the workdir, to the list; call it before they are written."""
    _write(workdir, {*_written(workdir), *names})


def replace_written(workdir: Path, names: Iterable[str], folder: str = "") -> None:
    """Lists all files of this run, and removes files of earlier runs and directories that become empty.

    With a `folder`, a POSIX path below the workdir that all `names` begin with, files elsewhere stay.
    """
    planned, former = set(names), _written(workdir)
    others = {name for name in former if folder and not name.startswith(f"{folder}/")}
    _write(workdir, planned | former)
    for name in sorted(former - others - planned):
        _remove(workdir, name)
    _write(workdir, planned | others)


def require_own(workdir: Path, names: Iterable[str]) -> None:
    """Checks that no file would be replaced that no run has written.

    Raises:
        ForeignFileError: a file of `names` exists and is not on the list.
    """
    written = _written(workdir)
    for name in names:
        if name not in written and os.path.lexists(workdir / name):
            raise ForeignFileError(
                f"{workdir / name}: would be replaced, but this program did not write it; choose another --out"
            )


@contextmanager
def writing_own(workdir: Path, names: Sequence[str]) -> Iterator[None]:
    """Locks the workdir for the context, in which files are written, and lists them.

    Raises:
        ForeignFileError: a file would be replaced that no run has written.
        WorkdirError: another run uses the workdir, or it cannot be written.
    """
    with locked(workdir), written_to(workdir):
        require_own(workdir, names)
        note_written(workdir, names)
        yield


def move_written(workdir: Path, target: Path, names: Sequence[str], last: str) -> None:
    """Moves files that runs have written into a new directory below the workdir, and lists them there.

    Missing files are skipped. `last` marks the others as complete: it is removed first and added last.
    """
    target.mkdir(parents=True)
    _write(target, {*names, last})
    waiting = target / f"{PARTIAL}{last}"
    (workdir / last).replace(waiting)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (workdir / name).replace(target / name)
        _remove(workdir, name)
    waiting.replace(target / last)
    _write(workdir, _written(workdir) - {*names, last})


def remove_written(directory: Path) -> None:
    """Removes all files that runs have written into a directory, and the directory if it is then empty."""
    replace_written(directory, ())
    (directory / LISTING).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _remove(workdir: Path, name: str) -> None:
    """Removes a file, and the directories below the workdir that become empty."""
    path = workdir / name
    with suppress(IsADirectoryError, PermissionError, FileNotFoundError, NotADirectoryError):
        path.unlink()
    with suppress(OSError):  # a directory is not empty, or missing
        for directory in path.parents:
            if directory == workdir:
                return
            directory.rmdir()


def _write(workdir: Path, names: Iterable[str]) -> None:
    write_json(workdir / LISTING, {"files": sorted(names)})


def _written(directory: Path) -> set[str]:
    """The listed POSIX paths, without those that lead out of the directory."""
    try:
        files = read_json(directory / LISTING)["files"]
        return {PurePosixPath(name).as_posix() for name in files if isinstance(name, str) and _stays_below(name)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _stays_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not Path(name).is_absolute() and ".." not in path.parts
