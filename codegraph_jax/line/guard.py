"""What a request to the server of a line must carry before anything else of it is looked at."""

import hmac
import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = frozenset({"/", "/page.css", "/page.js", "/health"})
"""Paths that may be read without a token: nothing there tells of parts."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer."""
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def refusal(scope: Scope, token: str, local: bool) -> Response | None:
    """The answer to a request that is refused; None to one that may go on.

    The path is that by which the request is routed. A path taken from a URL could be another: some versions of
    Starlette build the URL from the Host header, whatever that holds.

    Args:
        scope: of the request, as ASGI has it.
        token: that it must carry; empty: none.
        local: whether the server is reached from this machine alone.
    """
    headers = Headers(scope=scope)
    # HTTP/1.0 has none, and browsers always send one
    hosts = [_HOST.fullmatch(host) for host in headers.getlist("host")]
    if len(hosts) > 1 or None in hosts:
        return _answer(400, "the Host header is no name or address with a port")
    # a page elsewhere may point a name of its own at this machine
    if local and any(host and host["name"].lower().strip("[]") not in LOOPBACK for host in hosts):
        return _answer(400, "this server is known by the names of this machine alone")
    origin = headers.get("origin")
    if origin and scope["method"] not in ("GET", "HEAD") and origin.partition("://")[2] != headers.get("host"):
        return _answer(403, "requests of other pages are refused")
    if token and scope["path"] not in OPEN:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
            return _answer(401, "the token is missing or wrong", **{"WWW-Authenticate": "Bearer"})
    return None


def _answer(status: int, reason: str, **headers: str) -> Response:
    return JSONResponse({"detail": reason}, status, headers=headers)
