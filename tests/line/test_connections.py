"""Connections: silent and half-sent ones are closed, their number is bounded, and all who ask at once are answered."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, suppress

import uvicorn

from codegraph_jax.line.connections import bounded_protocol
from codegraph_jax.line.settings import WebSettings
from codegraph_jax.tasks.serve import listening

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(0.7)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def served(seconds: float = 0.3, most: int = 8):
    place = listening(WebSettings(port=0))
    place.listen(64)
    config = uvicorn.Config(app, http=bounded_protocol(seconds, most), ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        yield place.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        place.close()


def connected(address, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(address[:2], timeout=10)
    made.sendall(sent)
    return made


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes it before ten seconds have passed."""
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
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                drip.sendall(b"X: y\r\n")
            except OSError:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("headers that come byte by byte are never closed")
        assert is_closed(silent) and is_closed(half) and is_closed(again)


def test_a_request_that_is_being_answered_is_not_closed():
    with served() as address:
        slow = connected(address, REQUEST.replace(b"/ ", b"/slow "))
        assert b"200 OK" in slow.recv(1000)


def test_silent_connections_give_way_to_requests():
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
    with served(seconds=60, most=4) as address:
        slow = [connected(address, REQUEST.replace(b"/ ", b"/slow ")) for _ in range(4)]
        time.sleep(0.2)
        assert is_closed(connected(address, REQUEST))
        assert all(b"200 OK" in connection.recv(1000) for connection in slow)
