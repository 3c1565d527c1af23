"""Checks that all processes of a run are present, before the runtime connects them.

The runtime aborts a process that finds no coordinator, with little explanation. Therefore process 0 first listens on
the coordinator's port itself, and the others report to it. Missing processes, and processes with other flags, are named
in the error of every process within a fixed time. Afterwards the port is free for the runtime.

A process sends one line of JSON and receives two lines: `WELCOME` at once, and `GO` or `STOP reason` at the end.
"""

import json
import socket
import time
from contextlib import suppress

from codegraph_jax.core.settings import ConfigError

GREETING = "codegraph-jax"
MAX_LINE_BYTES = 1000
"""Limit in bytes, so that no connection can fill the memory."""
REPLY_SECONDS = 2.0
"""Timeout in seconds for a message that is due at once."""
RETRY_SECONDS = 0.2
"""Seconds between two attempts to reach process 0."""


def rendezvous(host: str, port: int, processes: int, process_id: int, seconds: float) -> None:
    """Returns when all processes have reported.

    Raises:
        ConfigError: a process is missing, two have the same number, their --processes differ, or process 0 does not
            answer at the address.
    """
    if process_id == 0:
        problem = _listen(port, processes, seconds)
    else:
        problem = _report(host, port, processes, process_id, seconds)
    if problem:
        raise ConfigError(f"--coordinator: {host}:{port}: {problem}")


def _listen(port: int, processes: int, seconds: float) -> str:
    """Process 0: waits for the others and sends them the result; returns the problem, or empty."""
    try:
        if socket.has_dualstack_ipv6():
            server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            server = socket.create_server(("", port))
    except OSError as error:
        return f"process 0 cannot listen at this port: {error.strerror or error}; choose another one"
    present: dict[int, socket.socket] = {}
    problem = ""
    deadline = time.monotonic() + seconds
    with server:
        while len(present) < processes - 1 and not problem:
            left = deadline - time.monotonic()
            if left <= 0:
                missing = [str(k) for k in range(1, processes) if k not in present]
                problem = f"process {', '.join(missing)} of {processes} has not reported within {seconds:g} s"
                break
            server.settimeout(left)
            with suppress(TimeoutError):
                caller = server.accept()[0]
                caller.settimeout(REPLY_SECONDS)
                problem = _admit(caller, processes, present)
        for caller in present.values():
            with suppress(OSError), caller:
                caller.sendall(f"STOP {problem}\n".encode() if problem else b"GO\n")
                # the other side closes first, so that the port is free at once
                caller.recv(1)
    return problem


def _admit(caller: socket.socket, processes: int, present: dict[int, socket.socket]) -> str:
    """Registers a process; returns a problem, or empty. A connection that is not a process of a run is closed."""
    try:
        message = json.loads(_line(caller))
        if message["run"] != GREETING:
            raise ValueError
        count, number = int(message["processes"]), int(message["process_id"])
        caller.sendall(b"WELCOME\n")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        caller.close()
        return ""
    if count != processes:
        problem = f"process {number} was started with --processes={count}, process 0 with --processes={processes}"
    elif number in present or not 0 < number < processes:
        problem = f"two processes were started with --process-id={number}"
    else:
        present[number] = caller
        return ""
    with suppress(OSError), caller:
        caller.sendall(f"STOP {problem}\n".encode())
    return problem


def _report(host: str, port: int, processes: int, process_id: int, seconds: float) -> str:
    """Another process: reports to process 0; returns the problem, or empty."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(RETRY_SECONDS, deadline - time.monotonic()))
            break
        except OSError as error:
            if time.monotonic() + RETRY_SECONDS > deadline:
                return f"process 0 was not reached within {seconds:g} s: {error.strerror or error}"
            time.sleep(RETRY_SECONDS)
    foreign = "another program answers at this address, not process 0 of a run"
    with connection:
        try:
            message = {"run": GREETING, "processes": processes, "process_id": process_id}
            connection.settimeout(2 * REPLY_SECONDS)
            connection.sendall(json.dumps(message).encode() + b"\n")
            if _line(connection) != "WELCOME":
                return foreign
        except (OSError, ValueError):
            return foreign
        try:
            # process 0 may have started later, and answers at its own timeout
            connection.settimeout(seconds + REPLY_SECONDS)
            answer = _line(connection)
        except (OSError, ValueError):
            return "process 0 has ended, or was silent for too long, before all processes had reported"
    return "" if answer == "GO" else answer.removeprefix("STOP ")


def _line(connection: socket.socket) -> str:
    """Reads one line.

    Raises:
        OSError: nothing arrives in time.
        ValueError: the line is too long or incomplete.
    """
    message = b""
    while not message.endswith(b"\n"):
        more = connection.recv(1)
        if not more or len(message) > MAX_LINE_BYTES:
            raise ValueError("no line")
        message += more
    return message[:-1].decode()
