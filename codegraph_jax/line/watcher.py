"""Watches a folder for new photos, and inspects complete files in order.

New files are found by comparing the folder with the ledger, so that files which arrived while the program was stopped
are not missed; file system events only trigger a scan. A part is identified by the name, modification time, size and
content of its file. A file that is overwritten or copied is a new part. A file that is renamed, or that was inspected
before it was complete, stays the same part.
"""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from codegraph_jax.core.errors import MissingPackageError
from codegraph_jax.data.search import LayoutError, walk
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import WRITTEN, Ledger
from codegraph_jax.line.part import Part, content_of_file, file_key, is_continuation, stamp_of
from codegraph_jax.line.settings import FolderConfig

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

RESCAN_SECONDS = 30.0
"""Seconds between two scans with file events, since events may be lost."""
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0
"""Seconds before the next attempt after an error: the first pause, doubled each time up to the greatest."""
MAX_OPEN_SECONDS = 60.0
"""Seconds without a change after which a file is inspected even if a program still has it open for writing."""
COARSE_SECONDS = 2.5
"""Seconds within which two changes may have the same modification time; FAT stores times in steps of two seconds."""
OUTSIDE = "is a link that leads out of the watched folder; only photos inside the folder are inspected"

logger = logging.getLogger(__name__)


class File(NamedTuple):
    """A photo in the folder: its POSIX path below the folder, its full path, and its file status."""

    name: str
    path: str
    status: os.stat_result


class FileIdentity(NamedTuple):
    """The identity of a file in the ledger.

    Attributes:
        key, content: see `Part`.
        replaces: number of the part that was recorded for the incomplete file; 0: none.
    """

    key: str
    content: str
    replaces: int = 0


@dataclass
class _Waiting:
    """A file that is not inspected yet: its `stamp_of`, and when it was first seen and last changed (monotonic)."""

    stamp: str
    seen: float
    changed: float


class Folder:
    """Finds the photos of a folder that are not in the ledger.

    Args:
        settings: the folder, and when a file counts as complete.
        ledger: ledger of the line.
        workdir: workdir of the line; photos saved there are not new.
    """

    def __init__(self, settings: FolderConfig, ledger: Ledger, workdir: Path):
        self.settings, self.ledger = settings, ledger
        self._written = tuple(f"{workdir.resolve() / name}{os.sep}" for name in WRITTEN)
        # all by path: files that are not inspected yet, stamps of recorded files, files of events since the last scan,
        # and the time (monotonic) at which a recorded file is read again, since its status may not show a change
        self._waiting: dict[str, _Waiting] = {}
        self._done: dict[str, str] = {}
        self._touched: set[str] = set()
        self._again: dict[str, float] = {}

    def ready(self) -> list[File]:
        """New, complete files, oldest first.

        Raises:
            LayoutError: the folder cannot be listed.
            LedgerUnavailableError: the ledger cannot be read.
        """
        found, _ = walk(self.settings.root)
        there = set(found.values())
        self._done = {path: stamp for path, stamp in self._done.items() if path in there}
        touched, self._touched = self._touched, set()
        self._again = {path: due for path, due in self._again.items() if path in there}
        self._again |= dict.fromkeys(touched & self._done.keys(), 0.0)
        new: dict[str, tuple[File, bool]] = {}
        is_written_here = cache(self._is_written_here)
        for name, path in found.items():
            try:
                status = Path(path).stat()
            except OSError:
                continue  # removed, or a broken link
            # the file may have changed without a change of its status
            again = self._again.get(path, math.inf) <= time.monotonic()
            # is_written_here is the slowest check
            if (again or self._done.get(path) != stamp_of(status)) and not is_written_here(Path(path).parent):
                new[path] = File(name, path, status), again
        first = [file for file, again in new.values() if file.path not in self._waiting and not again]
        known = self.ledger.recorded((file.name, stamp_of(file.status)) for file in first)
        for file in first:
            if file.name in known:
                self._done[file.path] = stamp_of(file.status)
                del new[file.path]
        self._waiting = {path: waiting for path, waiting in self._waiting.items() if path in new}
        ready = [file for file, _ in new.values() if self._is_whole(file)]
        return sorted(ready, key=lambda file: (file.status.st_mtime_ns, file.name))

    def _is_whole(self, file: File) -> bool:
        """Whether a file seems to be complete."""
        stamp, now, settle = stamp_of(file.status), time.monotonic(), self.settings.settle_seconds
        waiting = self._waiting.get(file.path)
        if waiting is None or waiting.stamp != stamp:
            waiting = self._waiting[file.path] = _Waiting(stamp, waiting.seen if waiting else now, now)
        # an old file is complete at once; with a time in the future, wait until the file no longer changes
        age, unchanged = time.time() - file.status.st_mtime_ns / 1e9, now - waiting.changed
        if age < max(settle, 0.01) and unchanged < settle:
            return False
        return unchanged >= MAX_OPEN_SECONDS or not is_being_written(file.path)

    def touch(self, paths: Iterable[str]) -> None:
        """Marks files of events for the next scan; called by another thread."""
        self._touched.update(paths)

    @property
    def unsettled(self) -> bool:
        """Whether some files are not inspected yet, or must be checked again soon."""
        return bool(self._waiting or self._again)

    def identify(self, file: File) -> FileIdentity | None:
        """The identity of a file; None if it is recorded already. Updates the ledger if the file was renamed.

        Raises:
            LedgerUnavailableError: the ledger cannot be read or written.
        """
        try:
            content = content_of_file(file.path)
        except OSError:
            content = ""  # the inspection records the reason
        key, stamp = file_key(file.name, file.status, content), stamp_of(file.status)
        known = self.ledger.find(key) or self._renamed(file, content)
        if known:
            if (known.key, known.stamp) != (key, stamp):
                self.ledger.move(replace(known, key=key, name=file.name, path=file.path, stamp=stamp))
            return None
        former = self.ledger.of_file(file.name)
        with suppress(OSError):
            if former and _is_one_file(former.stamp, stamp) and is_continuation(former.content, content, file.path):
                return FileIdentity(key, content, former.id)
        return FileIdentity(key, content)

    def links_outside(self, file: File) -> bool:
        """Whether a file is a link to a file outside the folder."""
        root = Path(os.path.realpath(self.settings.root))
        return root not in Path(os.path.realpath(file.path)).parents

    def is_young(self, file: File) -> bool:
        """Whether a file that cannot be decoded may still be incomplete."""
        waiting = self._waiting.get(file.path)
        return waiting is not None and time.monotonic() - waiting.seen < self.settings.retry_seconds

    def has_changed(self, file: File) -> bool:
        """Whether a file has changed since it was found."""
        try:
            return stamp_of(Path(file.path).stat()) != stamp_of(file.status)
        except OSError:
            return True

    def mark_done(self, file: File) -> None:
        """Marks a file as recorded in the ledger."""
        self._waiting.pop(file.path, None)
        self._again.pop(file.path, None)
        self._done[file.path] = stamp_of(file.status)
        # with times in whole seconds, a further change within the same second is not visible
        if file.status.st_mtime_ns % 10**9 == 0 and time.time() - file.status.st_mtime < COARSE_SECONDS:
            self._again[file.path] = time.monotonic() + COARSE_SECONDS

    def _renamed(self, file: File, content: str) -> Part | None:
        """The part whose file was renamed to this file: same content, time and size, and its own file is gone."""
        copies = self.ledger.same_content(content, file_key("", file.status, content)) if content else []
        return next((part for part in copies if not Path(part.path).exists()), None)

    def _is_written_here(self, directory: Path) -> bool:
        return f"{os.path.realpath(directory)}{os.sep}".startswith(self._written)


def is_being_written(path: str) -> bool:
    """Whether a program has the file open for writing, if the system can tell; otherwise False.

    Linux grants a read lease only if no program has the file open for writing. Leases are not available on network
    shares, for files of other users, and on other systems.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # a program that opens the file during the lease sends a signal; choose one that is ignored by default
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _is_one_file(former: str, stamp: str) -> bool:
    """Whether two results of `stamp_of` belong to one file that was written in place."""
    return former.rpartition(" ")[2] == stamp.rpartition(" ")[2] != "0"


class Watcher:
    """Inspects the new photos of a folder until it is stopped.

    Args:
        folder: the watched folder.
        inspector: inspects the photos.
        on_part: called with every part that is recorded.
    """

    def __init__(self, folder: Folder, inspector: Inspector, on_part: Callable[[Part], None] = lambda part: None):
        self.folder, self.inspector, self.on_part = folder, inspector, on_part
        self._wake = threading.Event()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ends `run` after the current part."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Watches until `stop`; continues after errors of files, the folder or the ledger."""
        observer = self._observed()
        settings, problem, pause = self.folder.settings, "", 0.0
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                began = time.monotonic()
                try:
                    try:
                        files = self.folder.ready()
                    finally:
                        took = time.monotonic() - began
                    for file in files:
                        if self._stopped.is_set():
                            return
                        self._inspect(file)
                        pause = 0.0
                    if problem:
                        logger.warning("%s: photos are inspected again", settings.root)
                    problem, pause = "", 0.0
                except (LayoutError, LedgerUnavailableError) as error:
                    if problem != str(error):
                        logger.warning("%s; trying again", error)
                    problem, pause = str(error), min(max(2 * pause, FIRST_PAUSE), MAX_PAUSE)
                    # a file event does not end this pause
                    self._stopped.wait(max(pause, 2 * took))
                    continue
                idle = settings.scan_seconds if observer is None else RESCAN_SECONDS
                if self.folder.unsettled:
                    idle = min(idle, max(settings.settle_seconds, 0.05))
                # do not scan a large folder all the time
                self._wake.wait(max(idle, 2 * took))
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _inspect(self, file: File) -> None:
        """Inspects one file.

        Raises:
            LedgerUnavailableError: nothing was recorded, and the next scan finds the file again.
        """
        stamp = stamp_of(file.status)
        if self.folder.links_outside(file):
            # without a path, the server does not show files outside the folder
            part = self.inspector.fail(file_key(file.name, file.status, ""), file.name, "", OUTSIDE, stamp)
        else:
            found = self.folder.identify(file)
            if found is None:
                self.folder.mark_done(file)
                return
            recorded = self.inspector.inspect(
                found.key, file.name, file.path,
                # the file has changed since, or may still be incomplete
                lambda failed: self.folder.has_changed(file) or (failed and self.folder.is_young(file)),
                content=found.content, stamp=stamp, replaces=found.replaces,
            )  # fmt: skip
            if recorded is None:
                return
            part = recorded
        self.folder.mark_done(file)
        self.on_part(part)

    def _observed(self) -> Any:
        """A running observer of file events; None if the folder is polled."""
        if self.folder.settings.events == "poll":
            return None
        try:
            from watchdog.events import FileSystemEventHandler
            from watchdog.observers import Observer
        except ImportError:
            raise MissingPackageError("watch", "watchdog", "app") from None

        class Waking(FileSystemEventHandler):
            def on_any_event(handler, event: Any) -> None:  # noqa: N805
                # ignore open and read events, which the watcher itself causes
                if event.event_type in ("created", "modified", "moved", "closed"):
                    self.folder.touch(os.fsdecode(path) for path in (event.src_path, event.dest_path) if path)
                    self._wake.set()

        observer = Observer()
        observer.schedule(Waking(), self.folder.settings.root, recursive=True)
        try:
            observer.start()
        except OSError as error:  # the system's limit of watched folders is reached
            logger.warning(
                "%s: file events are not available (%s); scanning every %g s instead",
                self.folder.settings.root, error, self.folder.settings.scan_seconds,
            )  # fmt: skip
            with suppress(RuntimeError):
                observer.stop()
            return None
        return observer
