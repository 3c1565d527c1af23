"""Fake variables of a Slurm step, and real processes that connect by them."""

import os

from tests.support.processes import ended, free_port, start_python

GATHER = """
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
    outer = dict.fromkeys(name for name in os.environ if name.startswith(("SLURM_", "OMPI_")))
    return start_python(*command, **outer | variables)


def test_two_processes_of_a_step_find_each_other():
    port = str(free_port())
    started = [launch(["-c", GATHER], step(k, JAX_COORDINATOR_PORT=port)) for k in range(2)]
    for process in started:
        assert "['here', 'here']" in ended(process, status=0).stdout


def test_missing_process_under_a_scheduler_is_one_line():
    """The runtime, which has the address, is stopped before it would abort."""
    ports = [str(free_port()) for _ in range(3)]
    variables = [
        step(0, JAX_COORDINATOR_PORT=ports[0]), step(1, JAX_COORDINATOR_PORT=ports[1]), under_mpirun(0, 2, ports[2])
    ]  # fmt: skip
    for process in [launch(MAIN, each) for each in variables]:
        errors = ended(process, status=2).stderr
        last = errors.splitlines()[-1]
        assert last.startswith("error: --coordinator: auto: the processes have not found each other within 2 s;"), last
        assert "Traceback" not in errors and "stack trace" not in errors
