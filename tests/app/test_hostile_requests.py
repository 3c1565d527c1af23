"""Every route of the app with hostile requests: responses name the error and never have status 500."""

import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

import pytest
import schemathesis
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from codegraph_jax.app import service
from codegraph_jax.app.folders import encode_path
from codegraph_jax.app.server import COOKIE, create_app
from tests.app.conftest import ADDRESS, KEY, write_run

SECRET = "what nobody may read"
FIELDS = (
    "path", "place", "network", "size", "fit", "bank", "answers_of", "false_alarms", "roi", "areas", "flags", "name",
    "changes", "kind", "key", "value", "text", "runs", "excluded",
)  # fmt: skip
ODD = [
    "", ".", "..", "../..", "/", "/etc/passwd", "~", "a\0b", "\ud800", "\udcff", "x" * 300, "\U00020000" * 90, "<b>",
    "=1", "%00", "%2e%2e%2f", "CON", "a\nb", "\u202e", "-1", "--config=x", "1e999", "one", "two", ".app",
    "parts.safetensors", "photo",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A client of an app that starts no processes, its directory, and a folder that no request may change."""
    root = tmp_path_factory.mktemp("hostile")
    results, outside = root / "runs", root / "outside"
    for run in ("one", "two"):
        write_run(results, run)
    (results / "banks").mkdir()
    (results / "banks" / "parts.safetensors").write_bytes(b"")
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    Image.new("RGB", (40, 30)).save(outside / "part.png")
    with (
        pytest.MonkeyPatch.context() as patch,
        TestClient(create_app(results, KEY), base_url=ADDRESS, cookies={COOKIE: KEY}, follow_redirects=False) as client,
    ):
        patch.chdir(outside)
        patch.setenv("HOME", str(outside))
        patch.setattr(service, "_run_module", lambda *words: CompletedProcess(words, 1, "", "error: not now"))
        client.app.state.service.jobs._launch = lambda job: None
        yield client, root, outside


def everything_in(place: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in place.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


texts = st.sampled_from(ODD) | st.text(max_size=20)
numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**70), 10**400, float("nan")])
scalars = st.none() | st.booleans() | numbers | texts
corners = st.lists(st.tuples(numbers, numbers), max_size=4)
values = st.recursive(
    scalars | st.fixed_dictionaries({"excluded": st.lists(corners, max_size=2), "size": st.tuples(numbers, numbers)}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=4),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6) | values


@st.composite
def requests(draw, routes, opened):
    """A request to a route, or to none: method, address and body."""
    path, own = draw(st.sampled_from(routes))
    parts = [
        quote(draw(texts), safe="", errors="surrogatepass") if part.startswith("{") else part
        for part in path.split("/")
    ]
    query = draw(
        st.dictionaries(
            st.sampled_from(["name", "place", "side", "since", "form", "key", "x"]),
            texts | numbers.map(str),
            max_size=3,
        )
    )
    words = "&".join(f"{key}={quote(value, safe='', errors='surrogatepass')}" for key, value in query.items())
    body = draw(bodies)
    if isinstance(body, dict) and draw(st.booleans()):
        body = {"place": opened} | body
    kind = draw(st.sampled_from(["json"] * 6 + ["bytes", "deep", "none"]))
    content = {
        "json": lambda: json.dumps(body).encode(), "bytes": lambda: draw(st.binary(max_size=30)),
        "deep": lambda: b"[" * 50_000, "none": lambda: b"",
    }[kind]()  # fmt: skip
    method = draw(st.sampled_from([own] * 12 + ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]))
    return method, "/".join(parts) + (f"?{words}" if words else ""), content


def test_no_request_fails_the_server_or_touches_other_folders(server):
    client, root, outside = server
    routes = [(route.path, min(route.methods)) for route in client.app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 30
    untouched = everything_in(outside)
    place = encode_path(str(outside))
    assert client.post("/api/open", json={"place": place}).status_code == 200
    reached = set()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests(routes, place))
    def ask(request):
        method, address, content = request
        # an error of the server would be raised here
        answer = client.request(method, address, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code < 500
        text = answer.text
        assert SECRET not in text and "Traceback" not in text
        reached.add(answer.status_code)
        if answer.status_code >= 400 and method != "HEAD":
            problem = answer.json()
            assert set(problem) == {"detail"} and len(problem["detail"]) > 8, problem

    ask()
    assert {200, 404, 422} <= reached, "some requests are valid"
    assert everything_in(outside) == untouched
    assert {path.name for path in root.iterdir()} == {"runs", "outside"}
    assert os.sep not in "".join(path.name for path in (root / "runs").iterdir())


def test_requests_of_the_described_form_never_fail_the_server(server):
    client, _, outside = server
    schema = schemathesis.openapi.from_dict(client.app.openapi())
    untouched, checked = everything_in(outside), set()
    for result in schema.get_all_operations():
        operation = result.ok()
        checked.add(f"{operation.method.upper()} {operation.path}")

        @settings(
            max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def ask(case):
            assert client.request(**case.as_transport_kwargs(base_url=ADDRESS)).status_code < 500

        ask()
    assert {"POST /api/runs", "POST /api/lines", "PUT /api/uploads/{folder}", "GET /lines/{name}/{path}"} <= checked
    assert everything_in(outside) == untouched


@pytest.mark.parametrize(
    "path, body, said",
    [
        ("/api/estimate", {"size": 99_999}, "size: "), ("/api/open", {"path": 3}, "path: "),
        ("/api/open", {}, "no folder is named"), ("/api/runs", {"flags": "a\0"}, "flags: "),
        ("/api/compare", {}, "runs: "), ("/api/lines/x/dance", {}, "action: "),
        ("/api/runs/one/answers", {"changes": [{"kind": "photo", "key": "a"}]}, "changes.0.value: "),
        ("/api/nothing", {}, "/api/nothing: Not Found"), ("/api/state", {}, "POST /api/state: Method Not Allowed"),
        ("/api/runs", {"areas": {"excluded": [[[0, 0], [1, 1]]], "size": [9, 9]}}, "areas.excluded.0: "),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field(server, path, body, said):
    answer = server[0].post(path, json=body)
    assert 400 <= answer.status_code < 500 and said in answer.json()["detail"], answer.text
