"""A folder into which pictures come: which of them are whole and not judged yet, and judging them in their order.

What lies in the folder and what lies in the ledger decide, so that nothing is missed that came while nobody looked;
events of the file system only say where to look. A file is known by its name, its time of change, its size and its
content: one that is written anew under the same name is another part, and one that is copied is too. One that is
renamed stays the same part, and so does one that was judged before all of it was written.
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

from codegraph_jax.core.errors import MissingPackage
from codegraph_jax.data.search import LayoutError, walk
from codegraph_jax.line.inspector import OWN, Inspector
from codegraph_jax.line.ledger import Ledger, LedgerUnavailable
from codegraph_jax.line.part import Part, content_of_file, file_key, goes_on, look_of
from codegraph_jax.line.settings import FolderSettings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOOK_SECONDS = 30.0
"""How often the folder is looked through where events tell of new files: some may get lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a ledger that cannot be written is tried again, doubled each time."""
LONGEST_OPEN = 60.0
"""Seconds without a change after which a file is judged although a program still has it open for writing."""
COARSE = 2.5
"""Seconds after a change until another one is seen by its time on every file system: FAT counts in steps of two."""
OUTSIDE = "is a link that leads out of the watched folder; only photos that lie in it are judged"

logger = logging.getLogger(__name__)


class File(NamedTuple):
    """A picture in the folder: its posix path below the folder, the file, and what the system says of it."""

    name: str
    path: str
    status: os.stat_result


class Recognised(NamedTuple):
    """What a file is by the ledger.

    Attributes:
        key, content: see `Part`.
        part: that it is already; None: it is to be judged.
        replaces: number of the part that it was before all of it was written; 0: none.
    """

    key: str
    content: str
    part: Part | None
    replaces: int = 0


@dataclass
class _Waiting:
    """A file that is not judged yet: how it looked, when it was first seen, and when it last changed (monotonic)."""

    look: str
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
        self._own = tuple(f"{workdir.resolve() / name}{os.sep}" for name in OWN)
        self._waiting: dict[str, _Waiting] = {}
        self._done: dict[str, str] = {}
        self._touched: set[str] = set()
        self._again: dict[str, float] = {}

    def ready(self) -> list[File]:
        """Those that are whole, the oldest first.

        Raises:
            LayoutError: the folder cannot be listed.
            LedgerUnavailable: the ledger cannot be read.
        """
        found, _ = walk(self.settings.root)
        there = set(found.values())
        self._done = {path: look for path, look in self._done.items() if path in there}
        touched, self._touched = self._touched, set()
        self._again = {path: due for path, due in self._again.items() if path in there}
        self._again |= dict.fromkeys(touched & self._done.keys(), 0.0)
        new: dict[str, tuple[File, bool]] = {}
        is_own = cache(self._is_own)
        for name, path in found.items():
            try:
                status = Path(path).stat()
            except OSError:
                continue  # gone again, or a link that leads nowhere yet
            # something was written that may not show in the look
            again = self._again.get(path, math.inf) <= time.monotonic()
            # what lies in the workdir is looked up last, since it costs most
            if (again or self._done.get(path) != look_of(status)) and not is_own(Path(path).parent):
                new[path] = File(name, path, status), again
        first = [file for file, again in new.values() if file.path not in self._waiting and not again]
        known = self.ledger.looked_at((file.name, look_of(file.status)) for file in first)
        for file in first:
            if file.name in known:
                self._done[file.path] = look_of(file.status)
                del new[file.path]
        self._waiting = {path: waiting for path, waiting in self._waiting.items() if path in new}
        ready = [file for file, _ in new.values() if self._is_whole(file)]
        return sorted(ready, key=lambda file: (file.status.st_mtime_ns, file.name))

    def _is_whole(self, file: File) -> bool:
        """Whether all of a file is there, as far as can be told."""
        look, now, settle = look_of(file.status), time.monotonic(), self.settings.settle
        waiting = self._waiting.get(file.path)
        if waiting is None or waiting.look != look:
            waiting = self._waiting[file.path] = _Waiting(look, waiting.seen if waiting else now, now)
        # an old file is whole at first sight; of a clock that runs ahead only a second look can tell
        age, unchanged = time.time() - file.status.st_mtime_ns / 1e9, now - waiting.changed
        if age < max(settle, 0.01) and unchanged < settle:
            return False
        return unchanged >= LONGEST_OPEN or not is_being_written(file.path)

    def touch(self, paths: Iterable[str]) -> None:
        """Notes files that events tell of; called by another thread."""
        self._touched.update(paths)

    @property
    def unsettled(self) -> bool:
        """Whether some files are not judged yet, or are to be looked at again soon."""
        return bool(self._waiting or self._again)

    def recognise(self, file: File) -> Recognised:
        """What a file is by the ledger, to which a new name is told.

        Raises:
            LedgerUnavailable: the ledger cannot be read or written.
        """
        try:
            content = content_of_file(file.path)
        except OSError:
            content = ""  # it is judged all the same, which says why it cannot be read
        key, look = file_key(file.name, file.status, content), look_of(file.status)
        known = self.ledger.find(key) or self._renamed(file, content)
        if known:
            if (known.key, known.look) != (key, look):
                known = replace(known, key=key, name=file.name, path=file.path, look=look)
                self.ledger.move(known)
            return Recognised(key, content, known)
        former = self.ledger.of_file(file.name)
        with suppress(OSError):
            if former and _is_one_file(former.look, look) and goes_on(former.content, content, file.path):
                return Recognised(key, content, None, former.id)
        return Recognised(key, content, None)

    def leads_out(self, file: File) -> bool:
        """Whether a file lies elsewhere, by a link."""
        root = Path(os.path.realpath(self.settings.root))
        return root not in Path(os.path.realpath(file.path)).parents

    def is_young(self, file: File) -> bool:
        """Whether a file that cannot be decoded may still be being written."""
        waiting = self._waiting.get(file.path)
        return waiting is not None and time.monotonic() - waiting.seen < self.settings.patience

    def has_changed(self, file: File) -> bool:
        """Whether a file is no longer what it was when it was found."""
        try:
            return look_of(Path(file.path).stat()) != look_of(file.status)
        except OSError:
            return True

    def done(self, file: File) -> None:
        """Notes that a file is in the ledger."""
        self._waiting.pop(file.path, None)
        self._again.pop(file.path, None)
        self._done[file.path] = look_of(file.status)
        # where times are whole seconds, another change in the same one does not show
        if file.status.st_mtime_ns % 10**9 == 0 and time.time() - file.status.st_mtime < COARSE:
            self._again[file.path] = time.monotonic() + COARSE

    def _renamed(self, file: File, content: str) -> Part | None:
        """The part that differs from a file by its name alone, and whose own file is gone."""
        alike = self.ledger.alike(content, file_key("", file.status, content)) if content else []
        return next((part for part in alike if not Path(part.path).exists()), None)

    def _is_own(self, directory: Path) -> bool:
        return f"{os.path.realpath(directory)}{os.sep}".startswith(self._own)


def is_being_written(path: str) -> bool:
    """Whether a program has a file open for writing, as far as the system tells.

    Linux grants a lease for reading only while nobody writes. On network shares, for files of other users and on other
    systems nothing is known, and the answer is no.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # whoever opens the file meanwhile has a signal sent to this process: one that is ignored by default
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


def _is_one_file(former: str, look: str) -> bool:
    """Whether two looks are those of one file that was written in place."""
    return former.rpartition(" ")[2] == look.rpartition(" ")[2] != "0"


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
                self._judge_now(file)
                return
            except LedgerUnavailable as error:
                logger.warning("%s; trying again in %g s", error, pause)
                self._stopped.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _judge_now(self, file: File) -> None:
        look = look_of(file.status)
        if self.folder.leads_out(file):
            # without a path, nobody is shown what lies outside
            part = self.inspector.fail(file_key(file.name, file.status, ""), file.name, "", OUTSIDE, look)
        else:
            found = self.folder.recognise(file)
            if found.part:
                self.folder.done(file)
                return
            judged = self.inspector.judge(
                found.key, file.name, file.path, lambda failed: self._is_unfinished(file, failed),
                content=found.content, look=look, replaces=found.replaces,
            )  # fmt: skip
            if judged is None:
                return
            part = judged
        self.folder.done(file)
        self.told(part)

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
                    self.folder.touch(os.fsdecode(place) for place in (event.src_path, event.dest_path) if place)
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
