"""Times functions against each other in interleaved rounds; the first call, with compilation, is timed separately."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

import jax

Name = TypeVar("Name")


@dataclass(frozen=True)
class Timing:
    """Timings of one function in seconds.

    Attributes:
        first: wall time of the first call, with compilation.
        wall: median wall time of the later calls.
        cpu: median CPU time of the process, summed over its threads.
    """

    first: float
    wall: float
    cpu: float

    @property
    def seconds(self) -> float:
        """CPU time on CPUs, since other processes affect it less; wall time on accelerators."""
        return self.cpu if jax.default_backend() == "cpu" else self.wall


def interleaved(functions: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, Timing]:
    """Times functions in rounds: each function runs once per round, so that all run under the same load.

    The timing includes waiting for the arrays that the functions return.
    """
    first, wall, cpu = {}, {name: [] for name in functions}, {name: [] for name in functions}  # type: ignore[var-annotated]
    for name, function in functions.items():
        begin = perf_counter()
        jax.block_until_ready(function())
        first[name] = perf_counter() - begin
    for _ in range(repeats):
        for name, function in functions.items():
            begin, begin_cpu = perf_counter(), process_time()
            jax.block_until_ready(function())
            wall[name].append(perf_counter() - begin)
            cpu[name].append(process_time() - begin_cpu)
    return {name: Timing(first[name], median(wall[name]), median(cpu[name])) for name in functions}
