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
    """Timings of one function.

    Attributes:
        first_seconds: wall time of the first call, with compilation.
        wall_seconds: median wall time of the later calls.
        cpu_seconds: median CPU time of the process, summed over its threads.
        result: what the first call returned.
    """

    first_seconds: float
    wall_seconds: float
    cpu_seconds: float
    result: Any = None

    @property
    def seconds(self) -> float:
        """CPU time on CPUs, since other processes affect it less; wall time on accelerators."""
        return self.cpu_seconds if jax.default_backend() == "cpu" else self.wall_seconds


def interleaved(functions: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, Timing]:
    """Times functions in rounds: each function runs once per round, so that all run under the same load.

    The timing includes waiting for the arrays that the functions return.
    """
    first, results = {}, {}
    wall, cpu = {name: [] for name in functions}, {name: [] for name in functions}  # type: ignore[var-annotated]
    for name, function in functions.items():
        begin = perf_counter()
        results[name] = jax.block_until_ready(function())
        first[name] = perf_counter() - begin
    for _ in range(repeats):
        for name, function in functions.items():
            begin, begin_cpu = perf_counter(), process_time()
            jax.block_until_ready(function())
            wall[name].append(perf_counter() - begin)
            cpu[name].append(process_time() - begin_cpu)
    return {name: Timing(first[name], median(wall[name]), median(cpu[name]), results[name]) for name in functions}
