"""Runs with several processes, one per host: each runs the same command, and process 0 writes the results.

The images are split into contiguous shares in the order of the processes. Values from other processes are gathered, so
that every process ends with the same results.
"""

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from codegraph_jax.core.arrays import zero_padded
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import locked
from codegraph_jax.distributed.rendezvous import rendezvous

HEARTBEAT_SECONDS = 20
"""A process without a heartbeat for this long counts as dead, and the others end with an error."""

CONNECT_SECONDS = 120
"""Seconds that processes wait for the last one to start."""

SPARE_SECONDS = 60
"""Additional timeout of the runtime, so that the error of this module comes first."""

LEAVE_SECONDS = 30
"""Seconds that a finished or failed process waits for the others before it ends them."""

WITHOUT_SCHEDULER = "; HOST:PORT with --processes and --process-id needs no scheduler, and names missing processes"
"""Advice if the runtime has determined the other processes."""

CONNECTION_LOST = ("Gloo", "peer", "closed", "UNAVAILABLE", "reset by")
"""Words in the error message of a collective if another process has died."""


class LostProcessError(UserError):
    """Another process of the run has died."""


def start(coordinator: str, processes: int, process_id: int) -> None:
    """Connects to the other processes; must be called before any use of a device.

    Args:
        coordinator: HOST:PORT of process 0; `auto` under Slurm, Kubernetes or on Cloud TPU; empty for one process.
        processes: number of processes, with HOST:PORT.
        process_id: number of this process from 0, with HOST:PORT.

    Raises:
        ConfigError: the flags are inconsistent, or the processes do not find each other.
    """
    if not coordinator:
        if processes > 1 or process_id > 0:
            raise ConfigError("--coordinator: is empty; give HOST:PORT of process 0 with --processes and --process-id")
        return
    # the runtime determines values that are None, by the variables of the scheduler
    address, count, number, hint = None, None, None, WITHOUT_SCHEDULER
    if coordinator != "auto":
        host, port = _address(coordinator)
        if not 0 <= process_id < processes:
            raise ConfigError(f"--process-id: {process_id} is not in 0 ... {processes - 1}; see --processes")
        rendezvous(host, port, processes, process_id, CONNECT_SECONDS)
        address, count, number, hint = coordinator, processes, process_id, ""
    where = f"--coordinator: {coordinator}: the processes"
    try:
        with _ended_after(CONNECT_SECONDS, f"{where} have not found each other within {CONNECT_SECONDS:g} s{hint}"):
            jax.distributed.initialize(
                address, count, number, initialization_timeout=CONNECT_SECONDS + SPARE_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS, shutdown_timeout_seconds=LEAVE_SECONDS,
            )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{where} do not find each other: {' '.join(str(error).split())}{hint}") from error


def _address(coordinator: str) -> tuple[str, int]:
    """Host and port; an IPv6 address stands in brackets."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"--coordinator: {coordinator!r} is neither HOST:PORT nor auto")
    return host.strip("[]"), int(port)


@contextmanager
def _ended_after(seconds: float, problem: str) -> Iterator[None]:
    """Ends the process with one line and status 2 after a timeout; the runtime's own timeout would abort it."""

    def end() -> None:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        os._exit(2)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def connected(coordinator: str, processes: int, process_id: int) -> Iterator[None]:
    """Calls `start`; within the context, the loss of another process raises a readable error.

    Raises:
        LostProcessError: another process has died; within `HEARTBEAT_SECONDS`, or at once if the connection was closed.
    """
    start(coordinator, processes, process_id)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if coordinator and any(words in str(error) for words in CONNECTION_LOST):
            raise LostProcessError(
                f"another process has ended; see its own output ({str(error).splitlines()[0]})"
            ) from error
        raise


def is_first() -> bool:
    """Whether this process writes files and prints."""
    return jax.process_index() == 0


def process_slice(n: int) -> slice:
    """The part of n images that this process reads."""
    processes, k = jax.process_count(), jax.process_index()
    return slice(n * k // processes, n * (k + 1) // processes)


def barrier(reason: str) -> None:
    """Waits until every process has called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def gather(value: Any) -> list[Any]:
    """The values (small, any JSON) of all processes, in order."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array(len(text), np.int32))).ravel()
    padded = zero_padded(text, int(lengths.max()))
    texts = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [json.loads(row[:length].tobytes()) for row, length in zip(texts, lengths)]


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Concatenates the arrays of all processes along the first axis, in order; lengths may differ."""
    if jax.process_count() == 1:
        return rows
    shapes = gather(list(rows.shape))
    rest = next((shape[1:] for shape in shapes if shape[0]), list(rows.shape[1:]))
    longest = max(shape[0] for shape in shapes)
    if not longest:
        return rows
    padded = zero_padded(rows.reshape(len(rows), *rest), longest)
    # as bytes, since devices do not support all types, such as 64-bit integers
    parts = np.asarray(multihost_utils.process_allgather(padded.view(np.uint8).reshape(-1)))
    parts = parts.reshape(len(shapes), -1).view(rows.dtype).reshape(len(shapes), longest, *rest)
    return np.concatenate([block[: shape[0]] for block, shape in zip(parts, shapes)])


def gather_parts(parts: Iterable[np.ndarray], row_shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """The rows of the parts of this process and of all others, in order; there may be no parts."""
    return gather_rows(np.concatenate([np.zeros((0, *row_shape), dtype), *parts]))


@contextmanager
def errors_in_all_processes() -> Iterator[None]:
    """A `UserError` of one process within the context is raised in all processes, so that none waits for it."""
    problem = None
    try:
        yield
    except UserError as error:
        problem = error
    problems = gather(str(problem) if problem else None)
    if problem:
        raise problem
    for process, text in enumerate(problems):
        if text is not None:
            raise UserError(f"process {process}: {text}")


@contextmanager
def locked_workdir(workdir: Path) -> Iterator[None]:
    """Locks the workdir in process 0 (`core.workdir.locked`) for all processes of the run.

    Raises:
        WorkdirError: in every process, if the workdir cannot be locked.
    """
    with ExitStack() as stack:
        with errors_in_all_processes():
            if is_first():
                stack.enter_context(locked(workdir))
        yield


def require_equal(facts: dict[str, Any]) -> None:
    """Checks that all processes have the same values.

    Raises:
        UserError: in every process, if values differ; names the value and the process.
    """
    first, *others = gather(facts)
    for process, values in enumerate(others, 1):
        # names of process 0 first, then names that only the other process has
        for name in [*first, *(name for name in values if name not in first)]:
            if name not in first or name not in values or first[name] != values[name]:
                problem = f"process {process} differs from process 0 in {name}"
                raise UserError(f"{problem}; all need the same command and data")
