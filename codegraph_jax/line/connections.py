"""The servers of a line and of the app: their number of connections is limited, and silent connections are closed."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from codegraph_jax.core.errors import UserError

MAX_CONNECTIONS = 256
"""Well below the 1,024 descriptors that a process may have by default."""
BACKLOG = 128
"""Connections that may wait to be accepted."""
REQUEST_SECONDS = 30.0
"""Seconds within which the headers of a request must arrive, and then its body."""


class BoundedProtocol(H11Protocol):
    """Protocol of uvicorn with a deadline for the headers of a request and a limit on connections.

    Uvicorn itself closes idle connections only after a response, not those that never send a complete header.

    Attributes:
        header_seconds: deadline for complete headers, from the connection or from the first byte of a further request.
        max_connections: greatest number of open connections. A further connection replaces the one that has been idle
            longest; if all are busy, it is closed.
    """

    header_seconds: float
    max_connections: int
    deadline: asyncio.TimerHandle | None = None
    idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being processed."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Starts the deadline, and closes a connection if there are too many."""
        super().connection_made(transport)
        self._start_deadline()
        protocols = (other for other in self.connections if isinstance(other, BoundedProtocol))
        others = [other for other in protocols if not other.transport.is_closing()]
        if len(others) > self.max_connections:
            idle = [other for other in others if other is not self and other.is_idle]
            min(idle, key=lambda other: other.idle_since, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Stops the deadline when the headers are complete, and starts it with the next request."""
        super().data_received(data)
        if not self.is_idle:
            self._stop_deadline()
        elif self.deadline is None:
            self._start_deadline()

    def connection_lost(self, error: Exception | None) -> None:
        """Stops the deadline."""
        self._stop_deadline()
        super().connection_lost(error)

    def _start_deadline(self) -> None:
        self.idle_since = self.loop.time()
        self.deadline = self.loop.call_later(self.header_seconds, self._expire)

    def _stop_deadline(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _expire(self) -> None:
        self.deadline = None
        if self.is_idle:
            self.transport.abort()


def bounded_protocol(header_seconds: float, max_connections: int = MAX_CONNECTIONS) -> type[BoundedProtocol]:
    """A `BoundedProtocol` with these limits, as a class for uvicorn."""
    limits = {"header_seconds": header_seconds, "max_connections": max_connections}
    return type("LimitedProtocol", (BoundedProtocol,), limits)


def server_of(app: Any, grace_seconds: int, header_seconds: float = REQUEST_SECONDS) -> uvicorn.Server:
    """The server of an application.

    Args:
        app: the ASGI application.
        grace_seconds: seconds that requests have to end when the server ends.
        header_seconds: deadline for the headers of a request.
    """
    options = uvicorn.Config(
        app, http=bounded_protocol(header_seconds), ws="none", log_level="warning", timeout_keep_alive=15,
        timeout_graceful_shutdown=grace_seconds, server_header=False,
    )  # fmt: skip
    return uvicorn.Server(options)


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address, not yet listening; port 0: the system chooses a free one.

    Raises:
        UserError: the address cannot be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror or error})") from None
    return listener
