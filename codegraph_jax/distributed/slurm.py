"""Reads the processes of a run from the environment of a Slurm step (`srun`).

The variables, and the port computed from the job id, are the same as in `jax.distributed.initialize`; they are also
needed for `rendezvous`, which runs before.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from codegraph_jax.core.settings import ConfigError

NODES, JOB, COUNT, NUMBER = "SLURM_STEP_NODELIST", "SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID"
PORT = "JAX_COORDINATOR_PORT"
"""Overrides the port computed from the job id."""

VARIABLES = (NODES, JOB, COUNT, NUMBER, "SLURM_LOCALID")
"""Slurm sets all of them for a task of a step."""

OPEN_MPI = "OMPI_COMM_WORLD_SIZE"
"""Set by mpirun, under which the Slurm variables describe mpirun's daemons."""

PORTS = 4096
LAST_PORT = 65535

_NUMBERS = r"[0-9]+(?:-[0-9]+)?"
_HOST = rf"(?:[A-Za-z0-9._-]|\[{_NUMBERS}(?:,{_NUMBERS})*\])+"
_LIST = re.compile(rf"({_HOST})(?:,{_HOST})*")
_BRACKET = re.compile(r"\[([0-9]+)[^\]]*\]")


class ProcessOfRun(NamedTuple):
    """The address of process 0, the number of processes, and the number of this process."""

    host: str
    port: int
    processes: int
    process_id: int

    @property
    def address(self) -> str:
        """HOST:PORT of process 0."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def process_of_step(environment: Mapping[str, str]) -> ProcessOfRun | None:
    """This process as a task of a Slurm step; None if Slurm has not started it.

    Raises:
        ConfigError: a variable has an unexpected value; names the variable.
    """
    if OPEN_MPI in environment or not all(name in environment for name in VARIABLES):
        return None
    port = LAST_PORT - PORTS + 1 + _number(environment, JOB) % PORTS
    if PORT in environment:
        port = _number(environment, PORT, 1, LAST_PORT)
    processes = _number(environment, COUNT, 1)
    return ProcessOfRun(first_host(environment[NODES]), port, processes, _number(environment, NUMBER, 0, processes - 1))


def first_host(nodes: str) -> str:
    """The first host of a Slurm node list: `node001` for `node[001-003,7],other`.

    Raises:
        ConfigError: the text is not a node list.
    """
    found = _LIST.fullmatch(nodes)
    if not found:
        raise ConfigError(f"{NODES}: {nodes!r} is not a list of hosts such as node[001-003,7],other")
    return _BRACKET.sub(r"\1", found[1])


def _number(environment: Mapping[str, str], name: str, minimum: int = 0, maximum: int = 2**63) -> int:
    text = environment[name]
    if not re.fullmatch("[0-9]{1,19}", text) or not minimum <= int(text) <= maximum:
        bounds = f"a number from {minimum}" + (f" to {maximum}" if maximum < 2**63 else "")
        raise ConfigError(f"{name}: {text!r} is not {bounds}")
    return int(text)
