"""Requests are authorised by the path that routes them, and by valid headers."""

import pytest
from starlette.datastructures import URL

from codegraph_jax.line import access_control
from codegraph_jax.line.access_control import refusal

TOKEN = "a token that is long enough"


def status(path="/parts", method="GET", token=TOKEN, local=True, **headers) -> int:
    given = [(name.encode(), value.encode()) for name, values in headers.items()
             for value in (values if isinstance(values, list) else [values])]  # fmt: skip
    scope = {"type": "http", "method": method, "path": path, "headers": given}
    answer = refusal(scope, token, local)
    return 200 if answer is None else answer.status_code


@pytest.mark.parametrize(
    "host",
    ["localhost/health?", "localhost/health#", "localhost:8000/?", "a@localhost", "localhost\\health", "local host",
     "[::1", "::1", "localhost:port", "", "localhost:123456", "127.0.0.1:8000, localhost", "lo\u0441alhost"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_host_header_does_not_bypass_the_token(host, method, monkeypatch):
    """Some versions of Starlette read path and host of `request.url` from an unchecked header."""
    monkeypatch.setattr(URL, "path", property(lambda url: "/health"))
    monkeypatch.setattr(URL, "hostname", property(lambda url: "localhost"))
    assert status(host=host, method=method) == status(host=host, method=method, local=False) == 400


def test_the_token_is_asked_for_by_the_path_of_the_request(monkeypatch):
    monkeypatch.setattr(URL, "path", property(lambda url: "/health"))
    assert status(host="localhost") == 401
    assert status("/health", host="localhost") == 200
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert status(host="localhost", authorization=f"{scheme} {TOKEN}") == 200
    for given in (TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer ä"):
        assert status(host="localhost", authorization=given) == 401


@pytest.mark.parametrize("path", ["//health", "/health/", "/page.js/../parts", "/HEALTH", "/health\0"])
def test_paths_that_look_open_are_not(path):
    assert status(path, host="localhost") == 401


def test_names_of_this_machine():
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
        assert status(host=host, token="") == 200
    for host in ("attacker.example", "localhost.attacker.example", "127.0.0.1.nip.io", "[::2]"):
        assert status(host=host, token="") == 400
        assert status(host=host, token="", local=False) == 200
    assert status(host=["localhost", "attacker.example"], token="") == 400
    assert status(token="") == 200  # HTTP/1.0


def test_pages_elsewhere_send_nothing():
    for origin in ("http://attacker.example", "null", "http://localhost:9", "localhost"):
        assert status(method="POST", token="", host="localhost", origin=origin) == 403
    assert status(method="POST", token="", host="localhost:8000", origin="http://localhost:8000") == 200
    assert status(method="POST", token="", origin="http://attacker.example") == 403


def test_every_answer_is_for_this_page_alone():
    assert access_control.HEADERS["Cross-Origin-Resource-Policy"] == "same-origin"
