"""Ports, and pairs of processes that compute together."""

import signal
import socket
import subprocess
import time
from collections.abc import Sequence

from codegraph_jax.distributed import processes


def free_port() -> int:
    """A free port of this computer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_that_a_loss_ends_both(started: Sequence[subprocess.Popen], victim: int, speaker: int) -> None:
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
