"""The pages of lines at the app's address: requests with the app's key are forwarded to the process of the line."""

import json
import threading
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient

from codegraph_jax.app.jobs import LINE
from codegraph_jax.app.server import create_app
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.part import Alarm, ReceivedPhoto
from tests.app.conftest import ADDRESS, KEY


class _Line(BaseHTTPRequestHandler):
    """Responds with the request that it received."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = {"method": self.command, "path": self.path, "body": body.decode("latin-1"), "headers": headers}
        text = json.dumps(said).encode()
        self.send_response(409 if "refused" in self.path else 200)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(text), "X-Other": "1",
                            "Content-Security-Policy": "default-src 'none'", "Retry-After": "2"}.items():  # fmt: skip
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *arguments):
        pass


@pytest.fixture
def line(client, results):
    """A client of the app, in which the line `parts-1` is ready."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Line)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = client.app.state.service
    service.state.last_jobs = lambda: {"lines/parts-1": {"id": 1, "kind": LINE, "state": "running"}}
    service.jobs.address = lambda job: f"http://127.0.0.1:{server.server_port}/"
    client.stop = lambda: (server.shutdown(), server.server_close())
    yield client
    client.stop()


def test_requests_and_answers_are_passed_on(line):
    answer = line.get("/lines/parts-1/parts?limit=2&flagged=true")
    said = answer.json()
    assert (said["method"], said["path"]) == ("GET", "/parts?limit=2&flagged=true")
    assert answer.headers["content-security-policy"] == "default-src 'none'" and answer.headers["retry-after"] == "2"
    assert "x-other" not in answer.headers
    assert "cookie" not in said["headers"], "the key of the app stays in the app"
    assert line.get("/lines/parts-1/").json()["path"].rstrip("?") == "/"
    assert line.put("/lines/parts-1/parts/3/answer?defective=true").json()["method"] == "PUT"
    sent = line.post("/lines/parts-1/parts", content=b"photo", headers={"Content-Type": "image/png"}).json()
    assert sent["body"] == "photo" and sent["headers"]["content-type"] == "image/png"
    assert line.request("DELETE", "/lines/parts-1/refused").status_code == 409


@pytest.mark.parametrize("path", ["a%20b/../c", "%2e%2e/api/state", "a%0d%0aX-Injected:%201", "%3Fq=1", "é"])
def test_hostile_paths_reach_the_line_alone(line, path):
    answer = line.get(f"/lines/parts-1/{path}")
    assert answer.status_code == 404 or "x-injected" not in answer.json()["headers"]


def test_line_pages_need_the_key_and_the_same_origin(line):
    with TestClient(create_app(line.app.state.service.results, KEY), base_url=ADDRESS) as stranger:
        assert stranger.get("/lines/parts-1/summary").status_code == 401
    foreign = {"origin": "http://attacker.example"}
    assert line.put("/lines/parts-1/parts/3/answer?defective=true", headers=foreign).status_code == 403


def test_lines_that_do_not_run_have_no_page(line):
    for name in ("parts-2", "..", "parts-1%00"):
        assert line.get(f"/lines/{name}/summary").status_code == 404
    line.stop()
    answer = line.get("/lines/parts-1/summary")
    assert answer.status_code == 404 and "the line does not answer" in answer.json()["detail"]


def test_a_stopped_line_keeps_its_counts_and_table(client, results):
    (results / "lines" / "parts-1").mkdir(parents=True)
    with closing(Ledger(results / "lines" / "parts-1" / LEDGER_FILE)) as ledger:
        ledger.outbox.send_to(["https://host/x?key=secret"])
        alarm = Alarm("drift", "scores", "The scores drift.")
        ledger.record(replace(ReceivedPhoto("a", "a.png", "a.png").not_inspected("cannot be decoded"), alarms=(alarm,)))
    service = client.app.state.service
    service.state.last_jobs = lambda: {"lines/parts-1": {"id": 1, "kind": LINE, "state": "done"}}
    summary = client.get("/lines/parts-1/summary").json()
    counts = {"inspected": 0, "flagged": 0, "not_inspected": 1, "waiting": 0, "last_alarm": 1, "last_part": 1}
    late = {"address": "https://host/x", "waiting": 1, "set_aside": 0, "parts": [], "error": ""}
    assert summary == counts | {"undelivered": [late]}, "the response of a running line, without secrets"
    heading, row = client.get("/lines/parts-1/parts.csv").text.splitlines()
    assert heading.startswith("id,") and "cannot be decoded" in row
    assert client.get("/lines/parts-1/", follow_redirects=False).headers["location"] == "/#/lines"
    assert client.get("/lines/parts-1/parts").status_code == 404, "the rest needs the process of the line"
    (results / "lines" / "parts-1" / LEDGER_FILE).write_bytes(b"no database, but long enough to be read as one" * 40)
    answer = client.get("/lines/parts-1/summary")
    assert 400 <= answer.status_code < 500 and answer.json()["detail"]
