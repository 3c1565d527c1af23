"""Limits the number of connections to the line's server, and closes connections that send no request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
"""Well below the 1,024 descriptors that a process may have by default."""


def bounded_protocol(seconds: float, most: int = MOST_CONNECTIONS) -> type[H11Protocol]:
    """uvicorn's protocol with a deadline for the headers of a request and a limit on connections.

    uvicorn itself closes idle connections only after a response, not those that never send a complete header.

    Args:
        seconds: deadline for complete headers, from the connection or from the first byte of a further request.
        most: number of open connections. A further connection replaces the one that has been idle longest; if all are
            busy, it is closed.
    """

    class Bounded(H11Protocol):
        deadline: asyncio.TimerHandle | None = None
        since = 0.0

        @property
        def waits(self) -> bool:
            """Whether no request is being processed."""
            return self.cycle is None or self.cycle.response_complete

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()
            others = [other for other in self.connections if isinstance(other, Bounded) and other.is_open]
            if len(others) > most:
                waiting = [other for other in others if other is not self and other.waits]
                min(waiting, key=lambda other: other.since, default=self).transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self.waits:
                self._stop_waiting()
            elif self.deadline is None:
                self._wait()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(error)

        @property
        def is_open(self) -> bool:
            return not self.transport.is_closing()

        def _wait(self) -> None:
            self.since = self.loop.time()
            self.deadline = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _give_up(self) -> None:
            self.deadline = None
            if self.waits:
                self.transport.abort()

    return Bounded
