"""An HTTP server in place of a receiver of results."""

import csv
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from codegraph_jax.line.ledger import Ledger
from tests.line.parts import part
from tests.support.waiting import wait_until

DOWN = -1
"""Instead of a status: the receiver closes the connection without an answer."""


class Receiver:
    """An HTTP server that records messages; `status` decides on each of them."""

    def __init__(self, port: int = 0):
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = lambda message: 200
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N802, N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                outer.got.append((dict(handler.headers), body))
                status = outer.status(json.loads(body))
                if status == DOWN:
                    return
                handler.send_response(status)
                for name, value in outer.headers.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(b'{"detail": "so it is"}')

            def log_message(handler, *arguments):  # noqa: N805
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/results?key=secret"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def messages(self) -> list[dict]:
        return [json.loads(body) for _, body in self.got]

    def parts(self) -> list[int]:
        return [message["part"]["id"] for message in self.messages]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def record(ledger: Ledger, *keys: str, **fields) -> None:
    for key in keys:
        ledger.record(part(key, regions=(), **fields))


def until_empty(ledger: Ledger) -> None:
    wait_until(lambda: ledger.outbox.undelivered() == [], description="an empty outbox")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
