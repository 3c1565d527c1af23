"""The task `serve`: pictures of parts that are sent over HTTP, judged until the command is interrupted."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegraph_jax.core.errors import MissingPackage
from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.line.settings import ServeConfig, WebSettings
from codegraph_jax.line.watcher import Watcher
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.tasks.watch import opened_line, require_folder, stopped_by_signals, watcher_of

SHORTEST_TOKEN = 16
BACKLOG = 128
"""Connections that wait to be taken."""


def run(values: Mapping[str, Any], workdir: str) -> list[Outcome]:
    """Serves until it is interrupted.

    Args:
        values: a ConfigDict, see `codegraph_jax.line.settings.ServeConfig`.
        workdir: holds the ledger, pictures that were sent, and the contact sheets.

    Raises:
        ConfigError, BankError, LedgerError, MissingPackage, WorkdirError: with nothing judged.
    """
    config = read_config(ServeConfig, values)
    try:
        import uvicorn

        from codegraph_jax.line.app import LOOPBACK, create_app
    except ImportError as error:
        raise MissingPackage("serve", (error.name or "fastapi").partition(".")[0], "line") from None
    token = read_token(config.serve)
    if config.serve.host not in LOOPBACK and not token:
        raise ConfigError(
            f"config.serve.host: {config.serve.host} is reached from other machines, which needs a token; "
            "give a file that holds one, --config.serve.token_file=FILE"
        )
    if config.watch.root:
        require_folder(config.watch)
    place = listening(config.serve)
    with place, opened_line(config, Path(workdir)) as inspector:
        app = create_app(inspector, config.serve, token)
        if late := app.state.line.catch_up():
            print(f"{late} parts of an earlier start judged", flush=True)
        options = uvicorn.Config(
            app, log_level="warning", timeout_keep_alive=15, timeout_graceful_shutdown=30, server_header=False
        )
        server = uvicorn.Server(options)
        watcher = watcher_of(config.watch, inspector) if config.watch.root else None
        thread: threading.Thread | None = None
        if watcher:
            thread = threading.Thread(target=_watch, args=(watcher, server), name="watcher")
            thread.start()
        place.listen(BACKLOG)
        host, port = place.getsockname()[:2]
        print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}; end with Ctrl+C", flush=True)
        try:
            # the server ends by itself when it is interrupted, and passes the signal on when it has
            with stopped_by_signals(lambda: None):
                server.run(sockets=[place])
        finally:
            if watcher and thread:
                watcher.stop()
                thread.join()
    return []


def _watch(watcher: Watcher, server: Any) -> None:
    """Watches; a server whose watcher has died must not look as if it were watching."""
    try:
        watcher.run()
    except BaseException:
        server.should_exit = True
        raise


def read_token(settings: WebSettings) -> str:
    """The first line of the token's file; empty where none is named.

    Raises:
        ConfigError: the file cannot be read, or the token is too short to keep anybody out.
    """
    if not settings.token_file:
        return ""
    try:
        lines = Path(settings.token_file).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config.serve.token_file: {settings.token_file!r} cannot be read ({error})") from None
    token = lines[0].strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"config.serve.token_file: the first line must be {SHORTEST_TOKEN} ASCII characters or more; "
            'python -c "import secrets; print(secrets.token_urlsafe())" makes one'
        )
    return token


def listening(settings: WebSettings) -> socket.socket:
    """The socket, taken before anything slow happens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((settings.host, settings.port))
    except OSError as error:
        place.close()
        raise ConfigError(
            f"config.serve.port: cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "choose another with --config.serve.port"
        ) from None
    return place
