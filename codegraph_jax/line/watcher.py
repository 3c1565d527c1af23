"""A folder into which pictures come: which of them are whole and not judged yet, and judging them in their order.

What lies in the folder and what lies in the ledger decide, so that nothing is missed that came while nobody looked;
events of the file system only wake the watcher up. A file is known by its name and its time of change: one that is
written anew under the same name is another part, and one that is copied is too.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codegraph_jax.core.errors import MissingPackage
from codegraph_jax.data.search import LayoutError, walk
from codegraph_jax.line.inspector import OWN, Inspector
from codegraph_jax.line.ledger import Ledger, LedgerUnavailable
from codegraph_jax.line.part import Part, file_key
from codegraph_jax.line.settings import FolderSettings

LOOK_SECONDS = 30.0
"""How often the folder is looked through where events tell of new files: some may get lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a ledger that cannot be written is tried again, doubled each time."""

logger = logging.getLogger(__name__)


class File(NamedTuple):
    """A picture in the folder.

    Attributes:
        key: see `Part.key`.
        name: posix path below the folder.
        path: the file.
        time: of its last change, in nanoseconds.
        size: in bytes.
    """

    key: str
    name: str
    path: str
    time: int
    size: int


@dataclass
class _Waiting:
    """A file that is not judged yet: how it looked, when it was first seen, and when it last changed (monotonic)."""

    look: tuple[int, int]
    seen: float
    changed: float


class Folder:
    """The pictures of a folder that nobody has judged.

    Args:
        settings: the folder, and when a file counts as whole.
        ledger: of the line.
        workdir: of the line; the pictures that it keeps there are no new ones.
    """

    def __init__(self, settings: FolderSettings, ledger: Ledger, workdir: Path):
        self.settings, self.ledger = settings, ledger
        self._own = {workdir.resolve() / name for name in OWN}
        self._waiting: dict[str, _Waiting] = {}
        self._done: dict[str, tuple[int, int]] = {}

    def ready(self) -> list[File]:
        """Those that are whole, the oldest first.

        Raises:
            LayoutError: the folder cannot be listed.
        """
        found, _ = walk(self.settings.root)
        there = set(found.values())
        self._done = {path: look for path, look in self._done.items() if path in there}
        present, ready = set(), []
        for name, path in found.items():
            try:
                status = Path(path).stat()
            except OSError:
                continue  # gone again, or a link that leads nowhere yet
            look, now = (status.st_mtime_ns, status.st_size), time.monotonic()
            # what lies in the workdir is looked up last, since it costs most
            if self._done.get(path) == look or self._is_own(path):
                continue
            present.add(path)
            file = File(file_key(name, status.st_mtime_ns), name, path, status.st_mtime_ns, status.st_size)
            waiting = self._waiting.get(path)
            if waiting is None or waiting.look != look:
                if waiting is None and self.ledger.find(file.key):
                    self._done[path] = look
                    continue
                waiting = self._waiting[path] = _Waiting(look, waiting.seen if waiting else now, now)
            # an old file is whole at first sight; of a clock that runs ahead only a second look can tell
            age = time.time() - status.st_mtime_ns / 1e9
            if age >= max(self.settings.settle, 0.01) or now - waiting.changed >= self.settings.settle:
                ready.append(file)
        self._waiting = {path: waiting for path, waiting in self._waiting.items() if path in present}
        return sorted(ready, key=lambda file: (file.time, file.name))

    @property
    def unsettled(self) -> bool:
        """Whether some files are not judged yet."""
        return bool(self._waiting)

    def is_young(self, file: File) -> bool:
        """Whether a file that cannot be decoded may still be being written."""
        waiting = self._waiting.get(file.path)
        return waiting is not None and time.monotonic() - waiting.seen < self.settings.patience

    def has_changed(self, file: File) -> bool:
        """Whether a file is no longer what it was when it was found."""
        try:
            status = Path(file.path).stat()
        except OSError:
            return True
        return (status.st_mtime_ns, status.st_size) != (file.time, file.size)

    def done(self, file: File) -> None:
        """Notes that a file is in the ledger."""
        self._waiting.pop(file.path, None)
        self._done[file.path] = (file.time, file.size)

    def _is_own(self, path: str) -> bool:
        return not self._own.isdisjoint(Path(os.path.realpath(path)).parents)


class Watcher:
    """Judges what comes into a folder until it is stopped.

    Args:
        folder: that is watched.
        inspector: that judges.
        told: called with every part that is recorded.
    """

    def __init__(self, folder: Folder, inspector: Inspector, told: Callable[[Part], None] = lambda part: None):
        self.folder, self.inspector, self.told = folder, inspector, told
        self._wake = threading.Event()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ends `run` after the part at hand."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Watches; whatever happens to single files, to the folder or to the ledger, it goes on."""
        observer = self._observed()
        settings, lost = self.folder.settings, False
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                began = time.monotonic()
                try:
                    files = self.folder.ready()
                    took = time.monotonic() - began
                    if lost:
                        logger.warning("%s: can be listed again", settings.root)
                    lost = False
                    for file in files:
                        if self._stopped.is_set():
                            return
                        self._judge(file)
                except (LayoutError, LedgerUnavailable) as error:
                    if not lost:
                        logger.warning("%s; trying again", error)
                    lost, took = True, 0.0
                idle = settings.interval if observer is None or lost else LOOK_SECONDS
                if self.folder.unsettled:
                    idle = min(idle, max(settings.settle, 0.05))
                # a folder that takes long to list is not listed all the time
                self._wake.wait(max(idle, 2 * took))
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _judge(self, file: File) -> None:
        """One file: in the ledger afterwards, or still to be judged."""
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                part = self.inspector.judge(
                    file.key, file.name, file.path, give_up=lambda failed: self._is_unfinished(file, failed)
                )
                if part is not None:
                    self.folder.done(file)
                    self.told(part)
                return
            except LedgerUnavailable as error:
                logger.warning("%s; trying again in %g s", error, pause)
                self._stopped.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _is_unfinished(self, file: File, failed: bool) -> bool:
        """Whether a file is to be looked at again: it has changed meanwhile, or may still be being written."""
        return self.folder.has_changed(file) or (failed and self.folder.is_young(file))

    def _observed(self) -> Any:
        """What tells of new files; None where the folder is to be looked through instead."""
        if self.folder.settings.events == "poll":
            return None
        try:
            from watchdog.events import FileSystemEventHandler
            from watchdog.observers import Observer
        except ImportError:
            raise MissingPackage("watch", "watchdog", "line") from None

        class Waking(FileSystemEventHandler):
            def on_any_event(handler, event: Any) -> None:  # noqa: N805
                # opening and reading are events too, and the watcher itself reads
                if event.event_type in ("created", "modified", "moved", "closed"):
                    self._wake.set()

        observer = Observer()
        observer.schedule(Waking(), self.folder.settings.root, recursive=True)
        try:
            observer.start()
        except OSError as error:  # as many folders as the system allows are watched already
            logger.warning(
                "%s: the system tells nothing of new files (%s); looking every %g s instead",
                self.folder.settings.root, error, self.folder.settings.interval,
            )  # fmt: skip
            with suppress(RuntimeError):
                observer.stop()
            return None
        return observer
