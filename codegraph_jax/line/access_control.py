"""Checks the host, the origin and the token of a request before it is processed; headers and texts of the pages."""

import hmac
import re

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = frozenset({"/", "/page.css", "/page.js", "/health"})
"""Paths that need no token, since they contain no data about parts."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every response."""
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def refusal(scope: Scope, token: str, local: bool) -> Response | None:
    """The response to a request that is refused; None if the request is allowed.

    The check uses `scope["path"]`, by which the request is routed. The path of `request.url` can differ: some versions
    of Starlette build the URL from the Host header.

    Args:
        scope: ASGI scope of the request.
        token: the token that the request must carry; empty: none is needed.
        local: whether the server listens on a loopback address only.
    """
    headers = Headers(scope=scope)
    # HTTP/1.0 clients may send no Host header; browsers always send one
    hosts = [_HOST.fullmatch(host) for host in headers.getlist("host")]
    if len(hosts) > 1 or None in hosts:
        return _refused(400, "the Host header must be one name or address, with or without a port")
    # DNS rebinding: another web site may resolve its own name to this machine
    if local and any(host and host["name"].lower().strip("[]") not in LOOPBACK for host in hosts):
        return _refused(400, "this server can be reached only as localhost, 127.0.0.1 or ::1")
    origin = headers.get("origin")
    if origin and scope["method"] not in ("GET", "HEAD") and origin.partition("://")[2] != headers.get("host"):
        return _refused(403, "requests from other web sites are refused")
    if token and scope["path"] not in OPEN:
        scheme, _, word = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(word.encode(), token.encode()):
            return _refused(401, "the token is missing or wrong", **{"WWW-Authenticate": "Bearer"})
    return None


def with_headers(response: Response) -> Response:
    """The response with `HEADERS`, where it has no others."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def add_text(app: FastAPI, path: str, text: str, kind: str) -> None:
    """Adds a page, a style or a script; `kind` is html, css or javascript."""

    def respond() -> Response:
        return Response(text, media_type=f"text/{kind}", headers={"Cache-Control": "no-cache"})

    app.add_api_route(path, respond, methods=["GET", "HEAD"], include_in_schema=False)


def _refused(status: int, reason: str, **headers: str) -> Response:
    return JSONResponse({"detail": reason}, status, headers=headers)
