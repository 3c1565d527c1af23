"""Progress bars, and wall times of the stages of a run."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

from tqdm import tqdm

Progress = Callable[[int], object]
"""A function that is called with the number of items just finished."""


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


@contextmanager
def bar(total: int, what: str, unit: str, shown: bool = True) -> Iterator[Progress]:
    """Shows a progress bar; yields the function that advances it."""
    with tqdm(total=total, desc=what, unit=unit, disable=not shown, dynamic_ncols=True) as progress:
        yield progress.update
