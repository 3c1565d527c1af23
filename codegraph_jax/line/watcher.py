"""Watches a folder for new photos, and inspects complete files in order.

New files are found by comparing the folder with the ledger, so that files which arrived while the program was stopped
are not missed; file system events only trigger a scan.
"""

import logging
import math
import os
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
from codegraph_jax.line.file_identity import (
    file_key,
    fingerprint_of_file,
    is_being_written,
    is_continuation,
    same_inode,
    stamp_of,
)
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import ALARMS, RECEIVED, Ledger
from codegraph_jax.line.part import Part, ReceivedPhoto

POLL_SECONDS = 1.0
"""Seconds between two scans without file events."""
RESCAN_SECONDS = 30.0
"""Seconds between two scans with file events, since events may be lost."""
SETTLE_SECONDS = 0.5
"""Seconds without a change after which a file counts as complete."""
RETRY_SECONDS = 10.0
"""Seconds during which a file that cannot be decoded is tried again, since it may still be incomplete."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0
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


@dataclass
class _Seen:
    """State of a file of the folder; times are monotonic.

    Attributes:
        stamp: its `stamp_of` at the last scan.
        first: when it was first seen; a file that is inspected again starts anew.
        changed: when its stamp last changed.
        done: whether the ledger has it, so that there is nothing to do until it changes.
        reread_at: when its content is compared with the ledger again, since a change may not show in its stamp.
    """

    stamp: str
    first: float
    changed: float
    done: bool
    reread_at: float = math.inf

    def update(self, stamp: str, now: float) -> None:
        """Compares the file with the last scan; a recorded file starts anew if it has changed, or may have."""
        has_changed, is_due = stamp != self.stamp, self.reread_at <= now
        if is_due:
            self.reread_at = math.inf
        starts_anew = self.done and (has_changed or is_due)
        if starts_anew:
            self.done, self.first = False, now
        if starts_anew or has_changed:
            self.stamp, self.changed = stamp, now


class Folder:
    """Finds the photos of a folder that are not in the ledger.

    Args:
        root: the folder.
        ledger: ledger of the line.
        workdir: workdir of the line; photos saved there are not new.
    """

    def __init__(self, root: str, ledger: Ledger, workdir: Path):
        self.root, self.ledger = root, ledger
        self._written = tuple(f"{workdir.resolve() / name}{os.sep}" for name in (ALARMS, RECEIVED))
        self._seen: dict[str, _Seen] = {}  # by path

    def ready(self) -> list[File]:
        """New, complete files, oldest first.

        Raises:
            LayoutError: the folder cannot be listed.
            LedgerUnavailableError: the ledger cannot be read.
        """
        files, now = self._files(), time.monotonic()
        self._seen = {file.path: self._seen[file.path] for file in files if file.path in self._seen}
        new = [file for file in files if file.path not in self._seen]
        recorded = self.ledger.recorded((file.name, stamp_of(file.status)) for file in new)
        for file in new:
            self._seen[file.path] = _Seen(stamp_of(file.status), now, now, done=file.name in recorded)
        for file in files:
            self._seen[file.path].update(stamp_of(file.status), now)
        ready = [file for file in files if not self._seen[file.path].done and self._is_complete(file)]
        return sorted(ready, key=lambda file: (file.status.st_mtime_ns, file.name))

    def _files(self) -> list[File]:
        """All photos in the folder, without those that the line has written."""
        is_written_here = cache(self._is_written_here)
        files = []
        for name, path in walk(self.root)[0].items():
            with suppress(OSError):  # removed, or a broken link
                if not is_written_here(os.path.dirname(path)):  # noqa: PTH120  pathlib takes longer
                    files.append(File(name, path, Path(path).stat()))
        return files

    def _is_written_here(self, directory: str) -> bool:
        return f"{os.path.realpath(directory)}{os.sep}".startswith(self._written)

    def _is_complete(self, file: File) -> bool:
        """Whether a file seems to be complete."""
        # an old file is complete at once; with a time in the future, wait until the file no longer changes
        age, unchanged = time.time() - file.status.st_mtime_ns / 1e9, time.monotonic() - self._seen[file.path].changed
        if age < SETTLE_SECONDS and unchanged < SETTLE_SECONDS:
            return False
        return unchanged >= MAX_OPEN_SECONDS or not is_being_written(file.path)

    def touch(self, paths: Iterable[str]) -> None:
        """Marks files of events for the next scan; called by another thread."""
        for path in paths:
            if seen := self._seen.get(path):
                seen.reread_at = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether all files are inspected, and none must be checked again soon."""
        return all(seen.done and seen.reread_at == math.inf for seen in self._seen.values())

    def identify(self, file: File) -> tuple[ReceivedPhoto, int] | None:
        """The photo in a new file; None if it is recorded already.

        Updates the ledger if the file was renamed.

        Returns:
            The photo, and the number of the part that was recorded for the incomplete file (0: none).

        Raises:
            LedgerUnavailableError: the ledger cannot be read or written.
        """
        try:
            fingerprint = fingerprint_of_file(file.path)
        except OSError:
            fingerprint = ""  # the inspection records the reason
        key, stamp = file_key(file.name, file.status, fingerprint), stamp_of(file.status)
        known = self.ledger.by_key(key) or self._renamed(file, fingerprint)
        if known:
            if (known.key, known.stamp) != (key, stamp):
                self.ledger.update_file(replace(known, key=key, name=file.name, path=file.path, stamp=stamp))
            return None
        former, replaces = self.ledger.of_file(file.name), 0
        with suppress(OSError):
            if (
                former
                and same_inode(former.stamp, stamp)
                and is_continuation(former.fingerprint, fingerprint, file.path)
            ):
                replaces = former.id
        return ReceivedPhoto(key, file.name, file.path, fingerprint, stamp), replaces

    def links_outside(self, file: File) -> bool:
        """Whether a file is a link to a file outside the folder."""
        root = Path(os.path.realpath(self.root))
        return root not in Path(os.path.realpath(file.path)).parents

    def is_young(self, file: File) -> bool:
        """Whether a file that cannot be decoded may still be incomplete."""
        return time.monotonic() - self._seen[file.path].first < RETRY_SECONDS

    def has_changed(self, file: File) -> bool:
        """Whether a file has changed since it was found."""
        try:
            return stamp_of(Path(file.path).stat()) != stamp_of(file.status)
        except OSError:
            return True

    def mark_done(self, file: File) -> None:
        """Marks a file as recorded in the ledger."""
        seen = self._seen[file.path]
        seen.done = True
        # with times in whole seconds, a further change within the same second is not visible
        if file.status.st_mtime_ns % 10**9 == 0 and time.time() - file.status.st_mtime < COARSE_SECONDS:
            seen.reread_at = min(seen.reread_at, time.monotonic() + COARSE_SECONDS)

    def _renamed(self, file: File, fingerprint: str) -> Part | None:
        """The part whose file was renamed to this file: same content, time and size, and its own file is gone."""
        rest = file_key("", file.status, fingerprint)
        copies = self.ledger.same_content(fingerprint, rest) if fingerprint else []
        return next((part for part in copies if not Path(part.path).exists()), None)


class Watcher:
    """Inspects the new photos of a folder until it is stopped.

    Args:
        folder: the watched folder.
        inspector: inspects the photos.
        on_part: called with every part that is recorded.
        polls: whether the folder is scanned every `POLL_SECONDS`, without file events.
    """

    def __init__(
        self,
        folder: Folder,
        inspector: Inspector,
        on_part: Callable[[Part], None] = lambda part: None,
        polls: bool = False,
    ):
        self.folder, self.inspector, self.on_part, self.polls = folder, inspector, on_part, polls
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._pause = 0.0  # after the last error; a recorded part resets it

    def stop(self) -> None:
        """Ends `run` after the current part."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Watches until `stop`; continues after errors of files, the folder or the ledger."""
        observer, problem = self._start_observer(), ""
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                try:
                    idle = self._inspect_new(RESCAN_SECONDS if observer else POLL_SECONDS)
                except (LayoutError, LedgerUnavailableError) as error:
                    if problem != str(error):
                        logger.warning("%s; trying again", error)
                    problem, self._pause = str(error), min(max(2 * self._pause, FIRST_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
                    # a file event does not end this pause
                    self._stopped.wait(self._pause)
                    continue
                if problem:
                    logger.warning("%s: photos are inspected again", self.folder.root)
                problem, self._pause = "", 0.0
                self._wake.wait(idle)
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _inspect_new(self, idle: float) -> float:
        """Inspects the new photos; returns the seconds until the next scan, which are `idle` if nothing is pending."""
        began = time.monotonic()
        files = self.folder.ready()
        took = time.monotonic() - began
        for file in files:
            if self._stopped.is_set():
                break
            self._inspect(file)
        if not self.folder.is_settled:
            idle = min(idle, SETTLE_SECONDS)
        # do not scan a large folder all the time
        return max(idle, 2 * took)

    def _inspect(self, file: File) -> None:
        """Inspects one file.

        Raises:
            LedgerUnavailableError: nothing was recorded, and the next scan finds the file again.
        """
        recorded: Part | None
        if self.folder.links_outside(file):
            # without a path, the server does not show files outside the folder
            photo = ReceivedPhoto(file_key(file.name, file.status, ""), file.name, "", stamp=stamp_of(file.status))
            recorded = self.inspector.record_failure(photo, OUTSIDE)
        else:
            found = self.folder.identify(file)
            if found is None:
                self.folder.mark_done(file)
                return
            photo, replaces = found
            # nothing is recorded if the file has changed since, or may still be incomplete
            recorded = self.inspector.inspect(
                photo, lambda failed: self.folder.has_changed(file) or (failed and self.folder.is_young(file)), replaces
            )
        if recorded:
            self._pause = 0.0
            self.folder.mark_done(file)
            self.on_part(recorded)

    def _start_observer(self) -> Any:
        """A running observer of file events; None if the folder is polled."""
        if self.polls:
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
        observer.schedule(Waking(), self.folder.root, recursive=True)
        try:
            observer.start()
        except OSError as error:  # the system's limit of watched folders is reached
            logger.warning(
                "%s: file events are not available (%s); scanning every %g s instead",
                self.folder.root, error, POLL_SECONDS,
            )  # fmt: skip
            with suppress(RuntimeError):
                observer.stop()
            return None
        return observer
