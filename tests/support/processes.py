"""Processes of Python, and pairs of them that compute together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from codegraph_jax.distributed import processes
from tests.support import ROOT


def start_python(*words: object, cwd: Path = ROOT, **environment: str | None) -> subprocess.Popen[str]:
    """Starts `python WORDS` with the packages of this clone and without proxies; a variable of None is removed."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    changed = kept | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={name: value for name, value in changed.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def ended(
    process: subprocess.Popen[str], status: int | None = None, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Waits until a process ends, with this exit status if one is given; kills it after so many seconds."""
    try:
        output, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert status in (None, process.returncode), f"exit status {process.returncode}: {errors[-3000:]}"
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_python(
    *words: object, status: int | None = None, cwd: Path = ROOT, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Runs `python WORDS` to its end (see `start_python` and `ended`)."""
    return ended(start_python(*words, cwd=cwd, **environment), status)


def compiled_once(cache: Path) -> dict[str, str]:
    """Variables of processes on the CPU that share their compiled programs in a directory."""
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def free_port() -> int:
    """A free port of this computer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_that_a_loss_ends_both(started: Sequence[subprocess.Popen[str]], victim: int, speaker: int) -> None:
    """Kills one of two processes when one prints `ready`; the other has to end with an error, in bounded time."""
    survivor = started[1 - victim]
    try:
        while started[speaker].stdout.readline().strip() != "ready":
            assert started[speaker].poll() is None, started[speaker].stderr.read()[-2000:]
        started[victim].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        _, errors = survivor.communicate(timeout=120)
    finally:
        for process in started:
            process.kill()
    assert survivor.returncode not in (0, None)
    assert time.monotonic() - begin < processes.HEARTBEAT_SECONDS + processes.LEAVE_SECONDS + 20
    # if the coordinating process is killed, the runtime prints its own message
    assert "another process has ended" in errors or "another task died" in errors, errors[-3000:]
