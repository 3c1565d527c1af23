"""Processes connect, or name the missing one; the test uses threads as processes, and real sockets."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.distributed.rendezvous import MAX_LINE_BYTES, rendezvous
from tests.support.processes import free_port
from tests.support.threads import at_the_same_time

HOST = "127.0.0.1"


def call(port, processes, process_id, seconds=5.0, delay=0.0):
    """The error of a process; None if there is none."""
    time.sleep(delay)
    try:
        rendezvous(HOST, port, processes, process_id, seconds)
    except ConfigError as error:
        return str(error)
    return None


def verdicts(*calls):
    return at_the_same_time(lambda arguments: call(*arguments), calls)


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def other_server(port):
    """A server of another kind at the port; yields the list of its responses."""
    answer = []
    server = socket.create_server((HOST, port))

    def serve():
        while True:
            try:
                caller = server.accept()[0]
            except OSError:
                return
            with caller:
                caller.recv(100)
                if answer:
                    caller.sendall(answer[0])
                else:
                    time.sleep(6)

    threading.Thread(target=serve, daemon=True).start()
    yield answer
    server.close()


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_process_that_starts_late_is_waited_for(port, late):
    assert verdicts(*[(port, 3, k, 5.0, 1.0 if k == late else 0.0) for k in range(3)]) == [None] * 3
    # the runtime uses the port next
    socket.create_server((HOST, port)).close()


def test_missing_process_is_named_in_every_process(port):
    told = verdicts((port, 3, 0, 1.0), (port, 3, 2, 3.0))
    assert told == [f"--coordinator: {HOST}:{port}: process 1 of 3 has not reported within 1 s"] * 2


def test_a_missing_coordinator_is_reported_in_time(port):
    begin = time.monotonic()
    assert "process 0 was not reached within 1 s: Connection refused" in call(port, 2, 1, 1.0)
    assert time.monotonic() - begin < 3


def test_an_unknown_host_is_reported():
    with pytest.raises(ConfigError, match=r"no\.such\.host\.invalid:80: process 0 was not reached"):
        rendezvous("no.such.host.invalid", 80, 2, 1, 1.0)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\xff\xfe\n", b"x" * 3 * MAX_LINE_BYTES, None]
)
def test_wrong_server_at_the_coordinator_port(port, other_server, answer):
    if answer:
        other_server.append(answer)
    assert "another program answers at this address, not process 0 of a run" in call(port, 2, 1)


def test_a_taken_port_is_reported(port, other_server):
    assert "process 0 cannot listen at this port" in call(port, 2, 0)


def test_other_servers_do_not_disturb(port):
    def intrude():
        for words in (b"GET / HTTP/1.0\r\n\r\n", b"\n", b"[" * 900 + b"\n", b"x" * 3 * MAX_LINE_BYTES, b'{"run": 1}\n'):
            with socket.create_connection((HOST, port)) as connection:
                connection.sendall(words)
                connection.settimeout(3)
                with suppress(ConnectionResetError):
                    assert connection.recv(10) == b""

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call, port, 2, 0)
        time.sleep(0.3)
        intrude()
        second = pool.submit(call, port, 2, 1)
        assert (first.result(), second.result()) == (None, None)


def test_processes_with_different_counts_are_reported(port):
    told = verdicts((port, 2, 0), (port, 3, 1))
    assert all("process 1 was started with --processes=3, process 0 with --processes=2" in text for text in told)


def test_two_processes_of_one_number_are_reported(port):
    told = verdicts((port, 3, 0), (port, 3, 1), (port, 3, 1))
    assert all("two processes were started with --process-id=1" in text for text in told)


def test_the_death_of_process_0_is_reported_to_waiting_processes(port):
    def die():
        with socket.create_server((HOST, port)) as server, server.accept()[0] as caller:
            caller.recv(100)
            caller.sendall(b"WELCOME\n")

    threading.Thread(target=die, daemon=True).start()
    time.sleep(0.2)
    assert "process 0 has ended" in call(port, 2, 1)
