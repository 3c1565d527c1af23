"""Locks the directory of a run's results, and reports why it cannot be written."""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import PARTIAL

LOCK, RESUME, REVIEW = ".lock", ".resume", "review.json"
"""In a workdir: the lock, the directory with the saved state of a run, and the answers that it has applied."""

logger = logging.getLogger(__name__)


class WorkdirError(UserError):
    """The workdir is in use, cannot be written, or belongs to another run."""


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Creates the workdir and locks it against a second run; the lock ends with the process.

    New directories that are still empty at the end are removed. Otherwise the unlocked lock file stays, since another
    process may be waiting for that file.

    Raises:
        WorkdirError: the directory cannot be written, or another run has locked it.
    """
    try:
        made = [path for path in (workdir, *workdir.parents) if not path.exists()]
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or error
        raise WorkdirError(f"{workdir}: cannot be written ({reason}); choose another --out") from None
    lock = FileLock(workdir / LOCK, timeout=0, mode=0o666)
    directory = None
    try:
        lock.acquire()
        directory = _lock_directory(workdir)
    except (Timeout, BlockingIOError):
        lock.release()
        raise WorkdirError(f"{workdir}: another run is using it; choose another --out") from None
    except (OSError, NotImplementedError) as error:  # NotImplementedError: filelock on a system without flock
        logger.warning("%s: cannot be locked (%s); make sure that no other run writes there", workdir, error)
    try:
        yield
    finally:
        lock.release()
        if directory is not None:
            os.close(directory)
        with suppress(OSError):
            if made and {path.name for path in workdir.iterdir()} <= {LOCK}:
                (workdir / LOCK).unlink(missing_ok=True)
                for path in made:
                    path.rmdir()


def _lock_directory(workdir: Path) -> int | None:
    """Locks the directory itself, in case the lock file is deleted; returns its descriptor, or None if unsupported.

    Raises:
        BlockingIOError: another run has locked it.
    """
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows, where an open file cannot be deleted
        return None
    try:
        descriptor = os.open(workdir, os.O_RDONLY)
    except OSError:  # not readable
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None  # a file system that cannot lock directories
    return descriptor


@contextmanager
def written_to(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError within the context (a full disk, missing permissions) into a `WorkdirError`.

    Raises:
        WorkdirError: names the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise WorkdirError(
            f"{os.fspath(path)}: cannot be written ({error.strerror or error}); fix that and start the same command "
            "again"
        ) from error


def obstacle(path: Path) -> str | None:
    """The reason why a file cannot be written at `path`; None if none is found. Leaves no file behind."""
    try:
        if path.is_dir():
            return "it is a directory"
        above = next((directory for directory in path.parents if directory.exists()), path.parent)
        if not above.is_dir():
            return f"{str(above)!r} is not a directory"
        with tempfile.TemporaryFile(dir=above):
            return None
    except OSError as error:
        return error.strerror or str(error)


def remove_partial_files(workdir: Path, directories: Sequence[str]) -> None:
    """Removes temporary files of runs that were killed.

    Searches the workdir, which this run has locked, and the directories below it that hold only results: others may
    belong to other programs.
    """
    leftovers = list(workdir.glob(f"{PARTIAL}*"))
    for name in directories:
        leftovers += (workdir / name).rglob(f"{PARTIAL}*")
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
