"""Connections: silent and half-sent ones are closed, their number is limited, simultaneous requests succeed."""

import asyncio
import socket
import threading
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import uvicorn

from codegraph_jax.line.connections import bounded_protocol
from tests.support.threads import serving
from tests.support.waiting import wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = REQUEST.replace(b"/ ", b"/slow ")


class App:
    """Responds to every request, to /slow after `release`."""

    def __init__(self):
        self.slow, self.release = 0, threading.Event()

    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/slow":
            self.slow += 1
            await asyncio.to_thread(self.release.wait, 20)
        await answer(send)


async def answer(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def served(seconds: float = 0.3, most: int = 8, app: App | None = None):
    """Serves an application; yields the host and the port."""
    protocol = bounded_protocol(seconds, most)
    config = uvicorn.Config(app or App(), http=protocol, ws="none", lifespan="off", log_level="error")
    with serving(uvicorn.Server(config)) as address:
        yield urlsplit(address).hostname, urlsplit(address).port


def connected(address: tuple[str, int], sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(address, timeout=10)
    made.sendall(sent)
    return made


def is_closed(connection: socket.socket) -> bool:
    """True if the server closes the connection within ten seconds."""
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def test_silent_and_half_sent_headers_are_closed():
    with served() as address:
        silent, half = connected(address), connected(address, b"GET / HTTP/1.1\r\nHost: lo")
        again = connected(address, REQUEST)
        assert b"200 OK" in again.recv(1000)
        again.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        drip = connected(address, b"GET / HTTP/1.1\r\n")
        drip.settimeout(0.05)

        def drip_is_closed() -> bool:
            try:
                drip.sendall(b"X: y\r\n")
                return drip.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(drip_is_closed, 5)
        assert is_closed(silent) and is_closed(half) and is_closed(again)


def test_a_request_that_is_being_answered_is_not_closed():
    app = App()
    with served(app=app) as address:
        slow = connected(address, SLOW)
        wait_until(lambda: app.slow == 1)
        assert is_closed(connected(address)), "the deadline for headers has passed"
        app.release.set()
        assert b"200 OK" in slow.recv(1000)


def test_silent_connections_block_no_request():
    with served(seconds=60, most=8) as address:
        silent = [connected(address) for _ in range(30)]
        for _ in range(3):
            with connected(address, REQUEST) as asking:
                assert b"200 OK" in asking.recv(1000)
        closed = 0
        for connection in silent:
            connection.settimeout(0.05)
            with suppress(TimeoutError):
                closed += is_closed(connection)
        assert closed >= 22


def test_while_all_are_answered_another_one_is_closed():
    app = App()
    with served(seconds=60, most=4, app=app) as address:
        slow = [connected(address, SLOW) for _ in range(4)]
        wait_until(lambda: app.slow == 4)
        assert is_closed(connected(address, REQUEST))
        app.release.set()
        assert all(b"200 OK" in connection.recv(1000) for connection in slow)
