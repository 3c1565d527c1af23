"""The pages of lines at the app's own address: requests are passed on to the process of the line."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from codegraph_jax.app.lines import Lines
from codegraph_jax.app.runs import NotFoundError
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.line.responses import LineSummary

PROXY_SECONDS = 60.0
"""Time that a line has for a response."""
KEPT_HEADERS = ("Content-Type", "Content-Disposition", "Content-Security-Policy", "Cache-Control", "Retry-After")
"""Headers of a response that are passed on."""


def add_line_pages(app: FastAPI, lines: Lines) -> None:
    """Adds /lines/NAME/...: the page and the interface of a running line; counts and table of a stopped one."""

    @app.api_route("/lines/{name}/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
    async def line(name: str, path: str, request: Request) -> Response:
        if request.method == "GET" and path in ("summary", "parts.csv") and (file := lines.ledger_of_stopped(name)):
            return await run_in_threadpool(_recorded, file, path)
        if not path and lines.ledger_of_stopped(name):
            return RedirectResponse("/#/lines")
        address = lines.address(name)
        body = await request.body() if request.method == "POST" else b""  # the size of a POST is limited
        query = request.scope["query_string"].decode("ascii")
        content_type = request.headers.get("content-type")
        headers = {"Content-Type": content_type} if content_type else {}
        return await run_in_threadpool(_forward, address, request.method, f"/{quote(path)}?{query}", body, headers)


def _recorded(file: Path, name: str) -> Response:
    """Counts or table of a line, from its ledger."""
    if name == "parts.csv":
        ledger = Ledger(file)

        def rows() -> Iterator[str]:
            with closing(ledger):
                yield from ledger.csv()

        return StreamingResponse(rows(), media_type="text/csv")
    status = file.stat()
    return JSONResponse(_summary(file, (status.st_mtime_ns, status.st_size)))


@lru_cache(maxsize=64)
def _summary(file: Path, stamp: tuple[int, int]) -> dict[str, Any]:
    """Counts of a line; cached until the file changes, since opening a ledger checks all of it."""
    with closing(Ledger(file)) as ledger:
        return LineSummary(waiting=len(ledger.inbox()), **ledger.summary()).model_dump()


def _forward(address: str, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Response:
    """Passes a request on; returns the response of the line.

    Raises:
        NotFoundError: the line does not answer.
    """
    connection = HTTPConnection(urlsplit(address).netloc, timeout=PROXY_SECONDS)
    try:
        connection.request(method, target, body or None, dict(headers))
        response = connection.getresponse()
    except (OSError, HTTPException, ValueError) as error:
        connection.close()
        raise NotFoundError(f"the line does not answer ({error})") from None

    def chunks() -> Iterator[bytes]:
        try:
            while chunk := response.read(2**16):
                yield chunk
        finally:
            connection.close()

    kept = {name: value for name in KEPT_HEADERS if (value := response.headers.get(name))}
    return StreamingResponse(chunks(), response.status, kept)
