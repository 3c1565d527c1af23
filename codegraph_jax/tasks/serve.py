"""The task `serve`: inspects photos that are sent over HTTP, until the command is interrupted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codegraph_jax.core.errors import MissingPackageError, UserError
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.line.settings import ServeConfig, WebConfig
from codegraph_jax.line.watcher import Watcher
from codegraph_jax.tasks.watch import opened_line, require_folder, stopped_by_signals, watcher_of

MIN_TOKEN_LENGTH = 16


def run(config: ServeConfig, workdir: str) -> None:
    """Serves until it is interrupted.

    Raises:
        ConfigError, BankError, LedgerError, MissingPackageError, WorkdirError: before any part is inspected.
    """
    try:
        import python_multipart  # noqa: F401  Starlette reads forms by it

        from codegraph_jax.line.access_control import LOOPBACK
        from codegraph_jax.line.app import create_app
        from codegraph_jax.line.connections import BACKLOG, bind, server_of
    except ImportError as error:
        raise MissingPackageError("serve", (error.name or "fastapi").partition(".")[0], "app") from None
    token = read_token(config.serve)
    if config.serve.host not in LOOPBACK and not token:
        raise ConfigError(
            f"config.serve.host: other machines can reach {config.serve.host}, so a token is required; give a "
            "file with one, --token-file=FILE"
        )
    if config.watch.root:
        require_folder(config.watch)
    try:
        listener = bind(config.serve.host, config.serve.port)
    except UserError as error:
        raise ConfigError(f"config.serve.port: {error}; choose another with --port") from None
    with listener, opened_line(config, Path(workdir)) as inspector:
        app = create_app(inspector, config.serve, token, config.csv)
        server = server_of(app, grace_seconds=30)
        watcher = watcher_of(config.watch, inspector) if config.watch.root else None
        # the server handles signals while it runs, and raises them again after it has ended
        with stopped_by_signals(lambda: setattr(server, "should_exit", True)):
            if late := app.state.uploads.catch_up(lambda: bool(server.should_exit)):
                print(f"{late} parts left from an earlier start inspected", flush=True)
            listener.listen(BACKLOG)
            host, port = listener.getsockname()[:2]
            print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}; end with Ctrl+C", flush=True)
            with _watching(watcher, server):
                server.run(sockets=[listener])


@contextmanager
def _watching(watcher: Watcher | None, server: Any) -> Iterator[None]:
    """Watches the folder in a second thread; an error there stops the server too."""
    if watcher is None:
        yield
        return
    with ThreadPoolExecutor(1, "watcher") as pool:
        watching = pool.submit(watcher.run)
        # a server that runs on would hide that the folder is no longer watched
        watching.add_done_callback(lambda _: setattr(server, "should_exit", True))
        try:
            yield
        finally:
            watcher.stop()
        watching.result()


def read_token(settings: WebConfig) -> str:
    """The first line of the token file; empty if no file is named.

    Raises:
        ConfigError: the file cannot be read, or the token is too short.
    """
    if not settings.token_file:
        return ""
    try:
        lines = Path(settings.token_file).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config.serve.token_file: {settings.token_file!r} cannot be read ({error})") from None
    token = lines[0].strip()
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"config.serve.token_file: the first line must be {MIN_TOKEN_LENGTH} ASCII characters or more; "
            'python -c "import secrets; print(secrets.token_urlsafe())" makes one'
        )
    return token
