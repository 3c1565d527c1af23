"""Clocks: the first call apart, then rounds in which everything that is compared takes its turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

import jax

Name = TypeVar("Name")


@dataclass(frozen=True)
class Timing:
    """Seconds of one function.

    Attributes:
        first: wall time of the first call, compilation included.
        wall: median wall time of the calls that followed.
        cpu: median of the process's CPU time over all its threads.
    """

    first: float
    wall: float
    cpu: float

    @property
    def decisive(self) -> float:
        """The time that speeds are computed from: CPU time on CPUs, which other work disturbs less, else wall time."""
        return self.cpu if jax.default_backend() == "cpu" else self.wall


def interleaved(functions: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, Timing]:
    """Times functions against each other: in every round each runs once, so that all see the same machine.

    Args:
        functions: name -> function; what it returns is waited for.
        repeats: rounds after the first.
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
