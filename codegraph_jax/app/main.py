"""`codegraph app`: starts the server of the app on this computer and opens it in the browser."""

import secrets
import signal
import socket
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path

from codegraph_jax.app.state import STATE_DIRECTORY
from codegraph_jax.core.errors import MissingPackageError, UserError
from codegraph_jax.core.workdir import WorkdirError, locked

PORT, HOST = 8450, "127.0.0.1"
"""The port that is tried first, so that bookmarks stay valid; if it is taken, the system chooses one."""
ADDRESS, KEY = "address", "key"
"""Files in the directory of the state: the address of the running server, and the key of this and later servers."""


def main(runs: str = "runs") -> int:
    """Serves until it is interrupted; a second start for the same results opens the page of the first.

    Args:
        runs: the directory of the results.

    Raises:
        UserError: `runs` is a flag.
    """
    if runs.startswith("-"):
        raise UserError(f"{runs}: no such flag; name the directory of the results: codegraph app RUNS")
    results = Path(runs).expanduser().absolute()
    try:
        from codegraph_jax.app.server import create_app
        from codegraph_jax.line.connections import BACKLOG, bind, server_of
    except ImportError as error:
        raise MissingPackageError("app", (error.name or "fastapi").partition(".")[0], "app") from None
    try:
        listener = bind(HOST, PORT)
    except UserError:
        listener = bind(HOST, 0)
    try:
        with listener, locked(state := results / STATE_DIRECTORY):
            key = _key(state)
            address = f"http://{HOST}:{listener.getsockname()[1]}/?key={key}"
            server = server_of(create_app(results, key), grace_seconds=5)
            (state / ADDRESS).write_text(address, encoding="ascii")
            listener.listen(BACKLOG)
            print(f"codegraph: {address}\nresults: {results}; end with Ctrl+C", flush=True)
            with suppress(webbrowser.Error):
                webbrowser.open(address)
            if threading.current_thread() is threading.main_thread():
                # the server ends at a signal, and raises it again when it has ended
                for name in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(name, lambda *_: None)
            server.run(sockets=[listener])
    except WorkdirError as error:
        address = _address_of_running(results / STATE_DIRECTORY)
        if not address:
            problem = str(error).partition("; choose")[0]
            raise UserError(f"{problem}; try again in a minute, or name another directory: codegraph app DIR") from None
        print(f"codegraph is already open: {address}", flush=True)
        webbrowser.open(address)
    return 0


def _address_of_running(state: Path) -> str:
    """The address of the server that has locked this directory; empty if there is none."""
    with suppress(OSError, ValueError):
        address = (state / ADDRESS).read_text(encoding="ascii")
        port = int(address.partition(f"{HOST}:")[2].partition("/")[0])
        with socket.create_connection((HOST, port), timeout=2):
            return address
    return ""


def _key(state: Path) -> str:
    """The key in this directory, readable by its owner only; made at the first start."""
    path = state / KEY
    with suppress(FileExistsError):
        path.touch(0o600, exist_ok=False)
        path.write_text(secrets.token_urlsafe(24), encoding="ascii")
    return path.read_text(encoding="ascii").strip()
