"""Before the runtime joins several processes: are they all there, and do they mean the same run?

The runtime aborts a process that finds no coordinator, and says little. So process 0 first listens at the coordinator's
port itself, and the others report to it. A process that is missing or was started with other flags is named, in every
process, within a bounded time; then the port is handed to the runtime.

A process reports by one line of JSON and gets two lines back: `WELCOME` at once, `GO` or `STOP reason` in the end.

By hand, since no library offers it: the runtime has no hook between listening and aborting, and RPC frameworks bring
servers, threads and authentication for what is one line each way.
"""

import json
import socket
import time
from contextlib import suppress

from codegraph_jax.core.settings import ConfigError

GREETING = "codegraph-jax"
LONGEST_LINE = 1000
"""Bytes; whoever connects must not be able to fill the memory."""
PATIENCE = 2.0
"""Seconds that a connection may take to say something where an answer is due at once."""
PAUSE = 0.2
"""Seconds between two attempts to reach process 0."""


def rendezvous(host: str, port: int, processes: int, process_id: int, seconds: float) -> None:
    """Returns when all processes have reported.

    Args:
        host, port: of process 0.
        processes: how many take part.
        process_id: which one this is.
        seconds: how long to wait for the last one.

    Raises:
        ConfigError: one is missing, two have the same number, they do not agree on how many they are, nobody listens
            at the address, or something else does.
    """
    if process_id == 0:
        problem = _listen(port, processes, seconds)
    else:
        problem = _report(host, port, processes, process_id, seconds)
    if problem:
        raise ConfigError(f"--coordinator: {host}:{port}: {problem}")


def _listen(port: int, processes: int, seconds: float) -> str:
    """Process 0: waits for the others and tells all of them the verdict, which is empty where all is well."""
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
                caller.settimeout(PATIENCE)
                problem = _admit(caller, processes, present)
        for caller in present.values():
            with suppress(OSError), caller:
                caller.sendall(f"STOP {problem}\n".encode() if problem else b"GO\n")
                # the caller hangs up first, so that the port is free at once
                caller.recv(1)
    return problem


def _admit(caller: socket.socket, processes: int, present: dict[int, socket.socket]) -> str:
    """Takes a caller in, or finds a problem with the run; anything else that connects is closed without an answer."""
    try:
        said = json.loads(_line(caller))
        if said["run"] != GREETING:
            raise ValueError
        count, number = int(said["processes"]), int(said["process_id"])
        caller.sendall(b"WELCOME\n")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        caller.close()
        return ""
    if count != processes:
        problem = f"process {number} was started with --processes={count}, process 0 with --processes={processes}"
    elif number in present or not 0 < number < processes:
        problem = f"two processes were started with --process_id={number}"
    else:
        present[number] = caller
        return ""
    with suppress(OSError), caller:
        caller.sendall(f"STOP {problem}\n".encode())
    return problem


def _report(host: str, port: int, processes: int, process_id: int, seconds: float) -> str:
    """Another process: reports to process 0 and returns its verdict, which is empty where all is well."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(PAUSE, deadline - time.monotonic()))
            break
        except OSError as error:
            if time.monotonic() + PAUSE > deadline:
                return f"process 0 was not reached within {seconds:g} s: {error.strerror or error}"
            time.sleep(PAUSE)
    unknown = "something answers at this address that is not process 0 of a run"
    with connection:
        try:
            said = {"run": GREETING, "processes": processes, "process_id": process_id}
            connection.settimeout(2 * PATIENCE)
            connection.sendall(json.dumps(said).encode() + b"\n")
            if _line(connection) != "WELCOME":
                return unknown
        except (OSError, ValueError):
            return unknown
        try:
            # process 0 may have begun to wait just now, and speaks when its own time is over
            connection.settimeout(seconds + PATIENCE)
            verdict = _line(connection)
        except (OSError, ValueError):
            return "process 0 has ended, or was silent for too long, before all processes had reported"
    return "" if verdict == "GO" else verdict.removeprefix("STOP ")


def _line(connection: socket.socket) -> str:
    """What the other end says up to the end of a line, without it.

    Raises:
        OSError: it says nothing in time.
        ValueError: it says too much, or stops within a line.
    """
    said = b""
    while not said.endswith(b"\n"):
        more = connection.recv(1)
        if not more or len(said) > LONGEST_LINE:
            raise ValueError("no line")
        said += more
    return said[:-1].decode()
