"""Several processes, one a host, that work on one run: the same command on each, and process 0 writes.

Images are split into contiguous shares, so that the images of all processes in order are the images of the run. What a
process needs of the others it gathers; every process ends with the same values, computed by the same code.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from codegraph_jax.config import ConfigError
from codegraph_jax.errors import UserError
from codegraph_jax.roll_call import call_roll

HEARTBEAT_SECONDS = 20
"""A process that is silent for so long counts as dead, and the others end with an error that says so."""

CONNECT_SECONDS = 120
"""How long processes wait for the last one to start."""

LEAVE_SECONDS = 30
"""How long a process that is done, or has failed, waits for the others before it ends them."""


SIGNS_OF_LOSS = ("Gloo", "peer", "closed", "UNAVAILABLE", "reset by")
"""What a failed collective says where the other end is gone."""


class LostProcess(UserError):
    """Another process of the run has died."""


def start(coordinator: str, processes: int, process_id: int) -> None:
    """Joins the other processes; before anything touches a device.

    Args:
        coordinator: HOST:PORT of process 0; `auto` where Slurm, Kubernetes or Cloud TPU says who takes part; empty for
            a run of one process.
        processes: how many, with an explicit coordinator.
        process_id: which one this is, from 0.

    Raises:
        ConfigError: flags that do not fit together, or processes that do not find each other.
    """
    timeouts: dict[str, Any] = {
        "initialization_timeout": CONNECT_SECONDS,
        "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
        "shutdown_timeout_seconds": LEAVE_SECONDS,
    }
    if not coordinator:
        if processes > 1 or process_id > 0:
            raise ConfigError("--coordinator: is empty; give HOST:PORT of process 0 with --processes and --process_id")
        return
    if coordinator != "auto":
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ConfigError(f"--coordinator: {coordinator!r} is neither HOST:PORT nor auto")
        if not 0 <= process_id < processes:
            raise ConfigError(f"--process_id: {process_id} is not in 0 ... {processes - 1}; see --processes")
    try:
        if coordinator == "auto":
            jax.distributed.initialize(**timeouts)
        else:
            call_roll(host.strip("[]"), int(port), processes, process_id, CONNECT_SECONDS)
            jax.distributed.initialize(coordinator, processes, process_id, **timeouts)
    except ConfigError:
        raise
    except (RuntimeError, ValueError) as error:
        hint = "; without Slurm, Kubernetes or Cloud TPU give HOST:PORT" if coordinator == "auto" else ""
        problem = f"the processes do not find each other: {error}{hint}"
        raise ConfigError(f"--coordinator: {coordinator}: {problem}") from error


@contextmanager
def joined(coordinator: str, processes: int, process_id: int) -> Iterator[None]:
    """`start`, and a readable error where another process is lost while this one waits for it.

    Raises:
        LostProcess: within `HEARTBEAT_SECONDS` or, where the transport notices, at once.
    """
    start(coordinator, processes, process_id)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if coordinator and any(sign in str(error) for sign in SIGNS_OF_LOSS):
            raise LostProcess(
                f"another process has ended; see its own output ({str(error).splitlines()[0]})"
            ) from error
        raise


def is_first() -> bool:
    """Whether this process writes files and speaks to the user."""
    return jax.process_index() == 0


def share(n: int) -> slice:
    """The part of n images that this process reads."""
    processes, k = jax.process_count(), jax.process_index()
    return slice(n * k // processes, n * (k + 1) // processes)


def wait(reason: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def gather(value: Any) -> list[Any]:
    """A small value (whatever JSON can hold) of every process, in their order."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array(len(text), np.int32))).ravel()
    padded = np.pad(text, (0, int(lengths.max()) - len(text)))
    texts = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [json.loads(row[:length].tobytes()) for row, length in zip(texts, lengths)]


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Joins arrays along their first axis, in the order of the processes; they may differ in length."""
    if jax.process_count() == 1:
        return rows
    shapes = gather(list(rows.shape))
    rest = next((shape[1:] for shape in shapes if shape[0]), list(rows.shape[1:]))
    longest = max(shape[0] for shape in shapes)
    padded = np.zeros((longest, *rest), rows.dtype)
    padded[: len(rows)] = rows.reshape(len(rows), *rest)
    # as bytes: devices know neither 64-bit integers nor, on every platform, every type
    parts = np.asarray(multihost_utils.process_allgather(padded.view(np.uint8).reshape(-1)))
    parts = parts.reshape(len(shapes), -1).view(rows.dtype).reshape(len(shapes), longest, *rest)
    return np.concatenate([part[: shape[0]] for part, shape in zip(parts, shapes)])


@contextmanager
def together() -> Iterator[None]:
    """A `UserError` of one process inside ends all of them; none waits in vain for the one that has failed."""
    problem = None
    try:
        yield
    except UserError as error:
        problem = error
    fail_together(problem)


def agree(what: dict[str, Any]) -> None:
    """Raises in every process where they do not have the same values.

    Args:
        what: small values (whatever JSON can hold) by the name that the error gives them.

    Raises:
        UserError: names what differs, and which process differs from process 0.
    """
    first, *others = gather(what)
    for process, values in enumerate(others, 1):
        # in this order, so that what one has and the other lacks comes last
        for name in [*first, *(name for name in values if name not in first)]:
            if name not in first or name not in values or first[name] != values[name]:
                problem = f"process {process} differs from process 0 in {name}"
                raise UserError(f"{problem}; all need the same command and data")


def fail_together(problem: UserError | None) -> None:
    """Raises in every process where one has a problem, so that none waits for it in vain."""
    problems = gather(str(problem) if problem else None)
    if problem:
        raise problem
    for process, text in enumerate(problems):
        if text is not None:
            raise UserError(f"process {process}: {text}")
