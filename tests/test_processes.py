"""Real processes that find each other over the loopback address."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from codegraph_jax import processes
from codegraph_jax.config import ConfigError
from tests.process_worker import detector, stages

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(count, devices, backend, out, mode):
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.process_worker"]
            + [str(x) for x in (port, count, k, devices, backend, out, mode)],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if "proxy" not in k.lower()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(count)
    ]


@pytest.mark.parametrize(
    "count,devices,backend",
    [
        (2, 1, "shard_map"),
        pytest.param(2, 3, "pmap", marks=pytest.mark.slow),
        pytest.param(4, 1, "shard_map", marks=pytest.mark.slow),
    ],
)
def test_processes_give_the_scores_of_one(tmp_path, count, devices, backend):
    started = launch(count, devices, backend, tmp_path, "once")
    alone = detector(devices=1)
    want = stages(alone)
    assert (want["tables"] != want["reduced"]).any(), "the removal must change something"
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
    for k in range(count):
        with np.load(tmp_path / f"{k}.npz") as got:
            for name, value in want.items():
                np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_one_process_ends_the_other_with_an_error(tmp_path, victim):
    started = launch(2, 1, "shard_map", tmp_path, "forever")
    survivor = started[1 - victim]
    try:
        while started[victim].stdout.readline().strip() != "ready":
            assert started[victim].poll() is None, started[victim].stderr.read()[-2000:]
        started[victim].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        _, errors = survivor.communicate(timeout=120)
    finally:
        for process in started:
            process.kill()
    assert survivor.returncode not in (0, None)
    assert time.monotonic() - begin < processes.HEARTBEAT_SECONDS + processes.LEAVE_SECONDS + 20
    # the process that coordinates takes the runtime's own message with it
    assert "another process has ended" in errors or "another task died" in errors, errors[-3000:]


@pytest.mark.parametrize(
    "flags,complaint",
    [
        (("", 2, 0), "--coordinator: is empty"),
        (("host", 2, 0), "neither HOST:PORT nor auto"),
        (("host:80", 2, 2), "--process_id: 2"),
    ],
)
def test_flags_that_do_not_fit_together_are_named(flags, complaint):
    with pytest.raises(ConfigError, match=complaint):
        processes.start(*flags)
