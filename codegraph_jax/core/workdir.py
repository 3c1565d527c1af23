"""The directory of a run's results: one run at a time, and one clear line where it cannot be written."""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import PARTIAL

LOCK = ".lock"

logger = logging.getLogger(__name__)


class WorkdirError(UserError):
    """The workdir is in use, cannot be written, or holds another run."""


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Creates the workdir and holds it against a second run; the lock ends with the process, however it ends.

    Directories that were made here and have stayed empty are removed again. Otherwise the lock file stays, held by
    nobody: who waits for it must find the same file.

    Raises:
        WorkdirError: the directory cannot be written, or another run holds it.
    """
    try:
        made = [place for place in (workdir, *workdir.parents) if not place.exists()]
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or error
        raise WorkdirError(f"{workdir}: cannot be written ({reason}); choose another --workdir") from None
    lock = FileLock(workdir / LOCK, timeout=0, mode=0o666)
    directory = None
    try:
        lock.acquire()
        directory = _held(workdir)
    except (Timeout, BlockingIOError):
        lock.release()
        raise WorkdirError(f"{workdir}: another run is at work there; choose another --workdir") from None
    except (OSError, NotImplementedError) as error:  # the latter is filelock's word for a system without flock
        logger.warning("%s: cannot be locked (%s); see to it that no other run writes there", workdir, error)
    try:
        yield
    finally:
        lock.release()
        if directory is not None:
            os.close(directory)
        with suppress(OSError):
            if made and {path.name for path in workdir.iterdir()} <= {LOCK}:
                (workdir / LOCK).unlink(missing_ok=True)
                for place in made:
                    place.rmdir()


def _held(workdir: Path) -> int | None:
    """A descriptor that locks the directory itself: the lock file may be deleted while a run is at work.

    Raises:
        BlockingIOError: another run holds it.
    """
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows, where a file that is open cannot be deleted
        return None
    try:
        descriptor = os.open(workdir, os.O_RDONLY)
    except OSError:  # it may be written and not read
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None  # a file system that locks files alone
    return descriptor


@contextmanager
def written_to(place: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the system's refusal to write (a full disk, lost rights) into one line.

    Raises:
        WorkdirError: naming the place and the reason.
    """
    try:
        yield
    except OSError as error:
        raise WorkdirError(
            f"{os.fspath(place)}: cannot be written ({error.strerror or error}); mend that and start the same command "
            "again"
        ) from error


def obstacle(path: Path) -> str | None:
    """Why a file cannot be written at `path`, as far as that can be told without leaving a trace; None: nothing."""
    try:
        if path.is_dir():
            return "it is a directory"
        place = path.parent
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            return f"{str(place)!r} is no directory"
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror or str(error)


def sweep(workdir: Path, directories: Sequence[str]) -> None:
    """Removes what runs that were killed have left half written.

    Args:
        workdir: held by this run; what lies deeper in it may be somebody else's.
        directories: those below it that belong to the results with all that is in them.
    """
    found = list(workdir.glob(f"{PARTIAL}*"))
    for name in directories:
        found += (workdir / name).rglob(f"{PARTIAL}*")
    for leftover in found:
        leftover.unlink(missing_ok=True)
