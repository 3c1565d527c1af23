"""Progress bars, wall times of the stages of a run, and a file with the progress for other programs."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

from tqdm import tqdm

from codegraph_jax.core.files import write_json

Progress = Callable[[int], object]
"""A function that is called with the number of items just finished."""
PROGRESS_FILE = ".progress.json"
"""File in the workdir of a run that is under way: stage, done, total, seconds of the stage, and the process."""
WRITE_SECONDS = 0.5
"""Minimum time between two writes of the file."""


class UndoableProgress:
    """A progress that can be undone before work is repeated."""

    def __init__(self, advance: Progress):
        self._advance, self._done = advance, 0

    def __call__(self, count: int) -> None:
        """Counts items that are finished."""
        self._done += count
        self._advance(count)

    def undo(self) -> None:
        """Takes all counts back."""
        self(-self._done)


class Clock:
    """Adds up the wall seconds of named stages: `with clock("scoring"): ...`; thread-safe.

    Attributes:
        seconds: seconds by stage.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float, seconds or {})
        self._lock = Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the duration of the context to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add({stage: perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds seconds by stage."""
        with self._lock:
            for stage, more in seconds.items():
                self.seconds[stage] += more


class _ProgressFile:
    """The file of the run in this process; without a path, nothing is written."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.facts: dict[str, Any] = {}
        self.written = 0.0

    def write(self, **facts: Any) -> None:
        self.facts |= facts
        if self.path is not None:
            self.written = time.monotonic()
            # a full disk must not end the run
            with suppress(OSError):
                write_json(self.path, self.facts)


_file = _ProgressFile()


@contextmanager
def progress_in(workdir: Path) -> Iterator[None]:
    """Writes the progress of all bars in the context to a file in the workdir, which is removed at the end.

    A file that is left over belongs to a run that was killed.
    """
    _file.path, _file.facts = workdir / PROGRESS_FILE, {}
    _file.write(stage="start", done=0, total=0, seconds=0.0, pid=os.getpid())
    try:
        yield
    finally:
        with suppress(OSError):
            (workdir / PROGRESS_FILE).unlink(missing_ok=True)
        _file.path = None


def note_estimate(**seconds: float | None) -> None:
    """Adds the estimated seconds of stages to the file; None: unknown."""
    _file.write(estimate=seconds)


@contextmanager
def bar(total: int, stage: str, unit: str, enabled: bool = True) -> Iterator[Progress]:
    """Shows a progress bar, and writes the progress file; yields the function that advances it.

    Without `enabled`, as in processes that do not print, there is neither a bar nor a file.
    """
    start, done = perf_counter(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.update(count)
        if time.monotonic() >= _file.written + WRITE_SECONDS or done >= total:
            _file.write(stage=stage, done=done, total=total, seconds=round(perf_counter() - start, 3))

    with tqdm(total=total, desc=stage, unit=unit, disable=not enabled, dynamic_ncols=True) as progress:
        if enabled:
            _file.write(stage=stage, done=0, total=total, seconds=0.0)
        yield advance if enabled else progress.update
