"""Variables of a Slurm step, which are faked, and real processes that find each other by them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.distributed.slurm import ProcessOfRun, first_host, process_of_step
from tests.runs.test_processes import free_port

ROOT = Path(__file__).parents[2]
MEETING = """
from codegraph_jax.distributed import processes
with processes.connected("auto", 1, 0):
    print(processes.gather("here"), flush=True)
"""
MAIN = ["-m", "tests.support.main_worker", "2", "--config=configs/folder.py", "--coordinator=auto"]


def step(number, count=2, nodes="localhost", job=7, **more):
    """The variables that srun sets for one task."""
    return more | {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
    }


def under_mpirun(number, count, port):
    """The variables of Open MPI, a launcher that only JAX recognises."""
    return {
        "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": str(count),
        "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
        "JAX_COORDINATOR_PORT": port,
    }


def launch(command, variables):
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith(("SLURM_", "OMPI_"))}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=clean | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "nodes,host",
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-003,7],other", "node001"),
        ("node[7,001-003],other", "node7"),
        ("node[12]", "node12"),
        ("rack[1-2]node[03-04]-ib.lan,x", "rack1node03-ib.lan"),
        ("10.0.0.3,10.0.0.4", "10.0.0.3"),
    ],
)
def test_the_first_host_of_a_list(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    "nodes",
    [
        "",
        ",",
        "a,",
        ",a",
        "a,,b",
        "node[",
        "node[]",
        "node[1-]",
        "node[1,]",
        "node]1",
        "a b",
        "a\n",
        "a[x-y]",
        "(null)",
    ],
)
def test_malformed_lists_of_hosts_are_refused(nodes):
    with pytest.raises(ConfigError, match="SLURM_STEP_NODELIST: .* is not a list of hosts"):
        first_host(nodes)


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,5}", fullmatch=True)


@given(NAMES, st.integers(0, 999), st.lists(NAMES), st.sampled_from(["", "-ib"]), st.integers(1, 4))
def test_the_first_number_keeps_its_zeros(name, number, others, suffix, width):
    first = f"{number:0{width}}"
    nodes = ",".join([f"{name}[{first}-{number + 3},{number + 9}]{suffix}", *others])
    assert first_host(nodes) == name + first + suffix


@given(st.text(st.sampled_from("a1-.[],")))
def test_any_list_gives_a_host_or_an_error(nodes):
    try:
        host = first_host(nodes)
    except ConfigError:
        return
    assert host and not set(host) & set("[],") and host[0] in nodes


def test_a_step_gives_address_count_and_number_of_the_process():
    assert process_of_step(step(3, 8, "n[04-05]", 123456)) == ProcessOfRun("n04", 61440 + 123456 % 4096, 8, 3)
    assert process_of_step(step(0, JAX_COORDINATOR_PORT="1234")) == ProcessOfRun("localhost", 1234, 2, 0)


@pytest.mark.parametrize("missing", list(step(0)))
def test_without_slurm_variables_there_is_no_process(missing):
    assert process_of_step({name: value for name, value in step(0).items() if name != missing}) is None


def test_under_mpirun_the_variables_of_slurm_are_ignored():
    assert process_of_step(step(0) | under_mpirun(1, 2, "1234")) is None


@pytest.mark.parametrize(
    "wrong,problem",
    [
        ({"SLURM_JOB_ID": "seven"}, "SLURM_JOB_ID: 'seven' is not a number from 0"),
        ({"SLURM_NTASKS": "0"}, "SLURM_NTASKS: '0' is not a number from 1"),
        ({"SLURM_PROCID": "2"}, "SLURM_PROCID: '2' is not a number from 0 to 1"),
        ({"SLURM_PROCID": "-1"}, "SLURM_PROCID: '-1' is not a number from 0 to 1"),
        ({"JAX_COORDINATOR_PORT": "70000"}, "JAX_COORDINATOR_PORT: '70000' is not a number from 1 to 65535"),
    ],
)
def test_invalid_variable_is_named(wrong, problem):
    with pytest.raises(ConfigError) as raised:
        process_of_step(step(0) | wrong)
    assert str(raised.value) == problem


def test_two_processes_of_a_step_find_each_other():
    port = str(free_port())
    started = [launch(["-c", MEETING], step(k, JAX_COORDINATOR_PORT=port)) for k in range(2)]
    for process in started:
        said, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors[-2000:]
        assert "['here', 'here']" in said


def test_missing_process_under_a_scheduler_is_one_line():
    """Process 0 of Slurm names who is missing, process 1 the address; where only the runtime knows the address, it is
    stopped before it would abort."""
    ports = [str(free_port()) for _ in range(3)]
    expected = {
        "process 1 of 2 has not reported within 2 s (the address follows from SLURM_STEP_NODELIST": step(
            0, JAX_COORDINATOR_PORT=ports[0]
        ),
        "process 0 was not reached within 2 s: Connection refused (the address follows from": step(
            1, JAX_COORDINATOR_PORT=ports[1]
        ),
        "the processes have not found each other within 2 s": under_mpirun(0, 2, ports[2]),
    }
    started = {complaint: launch(MAIN, variables) for complaint, variables in expected.items()}
    for complaint, process in started.items():
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2, errors[-2000:]
        last = errors.splitlines()[-1]
        assert last.startswith("error: --coordinator: ") and complaint in last, errors[-2000:]
        assert "Traceback" not in errors and "stack trace" not in errors
