"""Keeping a state must not be felt: writing takes a small share of the time that computing took, and leaves room."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

SHARE = 0.05
"""Of the time between two writes, what the second may take."""
RATE = 300e6
"""Bytes a second that a disk is credited with before it has shown its own speed."""
RESERVE = 2 * 2**30
"""Bytes that stay free on the disk: results, and arrays that are mapped from files, need them more."""

logger = logging.getLogger(__name__)


class Budget:
    """Decides what is written. What is quickly computed is not worth keeping: an accelerator may keep only a part.

    Attributes:
        open: whether anything may still be written.
    """

    def __init__(self, directory: Path, at_any_cost: bool = False):
        """
        Args:
            directory: on the disk that is written to.
            at_any_cost: all is written that leaves room on the disk, whatever time it takes.
        """
        self._directory, self._at_any_cost = directory, at_any_cost
        self._since = perf_counter()
        self._balance = 0.0
        self._last: dict[str, float] = {}
        self.open = True

    def close(self, reason: object) -> None:
        """Nothing more is written; says so, once."""
        if self.open:
            logger.warning("%s: nothing more is kept for going on after an interruption: %s", self._directory, reason)
        self.open = False

    def allows(self, kind: str, size: int) -> bool:
        """Whether `size` bytes may be written now; writes of one kind cost about what the last one did."""
        now = perf_counter()
        self._balance += SHARE * (now - self._since)
        self._since = now
        affordable = self._at_any_cost or self._last.get(kind, size / RATE) <= self._balance
        if not self.open or not affordable:
            return False
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            self.close(error.strerror or error)
            return False
        if free < size + RESERVE:
            self.close(f"less than {RESERVE / 2**30:.0f} GiB would stay free on the disk")
        return self.open

    @contextmanager
    def spend(self, kind: str) -> Iterator[None]:
        """Around a write: takes its time from the balance; a refusal of the system ends the writing, not the run."""
        start = perf_counter()
        try:
            yield
        except OSError as error:
            self.close(error.strerror or error)
        finally:
            self._since = perf_counter()
            self._last[kind] = self._since - start
            self._balance -= self._last[kind]
