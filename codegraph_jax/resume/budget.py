"""Limits the time and the disk space that saving the state takes."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

WRITING_SHARE = 0.05
"""Share of the run time that may be spent on writing."""
ASSUMED_RATE = 300e6
"""Assumed speed of the disk in bytes per second until a write has been timed."""
FREE_SPACE = 2 * 2**30
"""Bytes that stay free on the disk for results and memory-mapped arrays."""

logger = logging.getLogger(__name__)


class Budget:
    """Decides whether a part of the state is saved; results that are computed faster than written are not.

    Attributes:
        open: whether anything may still be written.

    Args:
        directory: a directory on the disk that is written to.
        at_any_cost: whether to ignore the time that writing takes.
    """

    def __init__(self, directory: Path, at_any_cost: bool):
        self._directory, self._at_any_cost = directory, at_any_cost
        self._since = perf_counter()
        self._balance = 0.0
        self._last: dict[str, float] = {}
        self.open = True

    def close(self, reason: object) -> None:
        """Stops all further writes, with one warning."""
        if self.open:
            logger.warning("%s: the state of the run is no longer saved: %s", self._directory, reason)
        self.open = False

    def allows(self, kind: str, size: int) -> bool:
        """Whether `size` bytes may be written now; the cost is estimated from the last write of this kind."""
        now = perf_counter()
        self._balance += WRITING_SHARE * (now - self._since)
        self._since = now
        affordable = self._at_any_cost or self._last.get(kind, size / ASSUMED_RATE) <= self._balance
        if not self.open or not affordable:
            return False
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            self.close(error.strerror or error)
            return False
        if free < size + FREE_SPACE:
            self.close(f"less than {FREE_SPACE / 2**30:.0f} GiB would stay free on the disk")
        return self.open

    @contextmanager
    def spend(self, kind: str) -> Iterator[None]:
        """Times a write within the context; an OSError stops further writes but not the run."""
        start = perf_counter()
        try:
            yield
        except OSError as error:
            self.close(error.strerror or error)
        finally:
            self._since = perf_counter()
            self._last[kind] = self._since - start
            self._balance -= self._last[kind]
