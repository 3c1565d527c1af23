"""Uploaded photos: request formats, concurrent clients, and repeated keys."""

import asyncio
import base64
import csv
import gzip
import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from codegraph_jax.line import inspector as inspector_module
from codegraph_jax.line import uploads as module
from codegraph_jax.line.app import create_app
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import RECEIVED, Ledger
from codegraph_jax.line.monitors import MonitoredPart
from codegraph_jax.line.part import ReceivedPhoto
from codegraph_jax.line.settings import WebConfig
from tests.line.conftest import client_of
from tests.line.parts import inspected_part
from tests.support.threads import at_the_same_time
from tests.support.waiting import wait_until

SCOPE = {
    "type": "http", "method": "POST", "path": "/parts", "raw_path": b"/parts", "query_string": b"", "headers": [],
    "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1),
}  # fmt: skip


def kept(inspector) -> list[str]:
    return sorted(str(path) for path in (inspector.workdir / RECEIVED).rglob("*.*"))


def test_a_key_belongs_to_one_photo(client, inspector, photos):
    """A client whose keys start again after a restart must not get yesterday's verdict."""
    first, second = (path.read_bytes() for path in photos[:2])
    headers = {"Idempotency-Key": "1"}
    part = client.post("/parts", content=first, headers=headers).json()
    refused = client.post("/parts", content=second, headers=headers)
    assert refused.status_code == 422 and "another photo" in refused.json()["detail"]
    assert client.post("/parts", content=first, headers=headers).json() == part
    assert inspector.ledger.counts()["inspected"] == 1 and len(kept(inspector)) == 1 and not inspector.ledger.inbox()


def test_a_request_that_is_sent_again_is_the_same_part(client, photos, inspector):
    headers = {"Idempotency-Key": "4711"}
    first = client.post("/parts", content=photos[0].read_bytes(), headers=headers).json()
    assert client.post("/parts", content=photos[0].read_bytes(), headers=headers).json() == first
    without = [client.post("/parts", content=photos[0].read_bytes()).json()["id"] for _ in range(2)]
    assert without == [2, 3]
    assert len(kept(inspector)) == 3 and not inspector.ledger.inbox()


@pytest.mark.parametrize(("sent", "statuses"), [([2] * 6, [200] * 6), ([0, 1, 2, 3], [200, 422, 422, 422])])
def test_photos_with_one_key_at_the_same_time_are_one_part(client, inspector, photos, sent, statuses):
    """Equal photos get the same answer; of different ones the first is inspected and the others are refused."""

    def send(number: int) -> httpx.Response:
        return client.post("/parts", content=photos[number].read_bytes(), headers={"Idempotency-Key": "k"})

    answers = at_the_same_time(send, sent)
    assert sorted(answer.status_code for answer in answers) == statuses
    assert {answer.json()["id"] for answer in answers if answer.status_code == 200} == {1}
    assert inspector.ledger.counts()["inspected"] == 1 and len(kept(inspector)) == 1 and not inspector.ledger.inbox()


def test_a_ledger_that_cannot_be_written_is_reported_and_nothing_is_lost(client, photos, inspector, monkeypatch):
    def full(*arguments, **fields):
        raise LedgerUnavailableError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "record", full)
        refused = client.post("/parts", content=photos[0].read_bytes(), headers={"Idempotency-Key": "k"})
        assert refused.status_code == 503 and "full" in refused.json()["detail"]
    assert [photo.key for photo in inspector.ledger.inbox()] == ["request:k"]
    # the next start inspects it, and a client may send it again
    assert client.app.state.uploads.catch_up() == 1
    again = client.post("/parts", content=photos[0].read_bytes(), headers={"Idempotency-Key": "k"})
    assert again.status_code == 200 and again.json()["id"] == 1


def test_an_upload_sent_twice_before_a_kill_does_not_stop_the_next_start(inspector, photos, tmp_path):
    """The second photo of a key was received, and the process ended before it was refused."""
    uploads = module.Uploads(inspector, WebConfig())
    inspector.inspect(ReceivedPhoto("request:k", "a", str(photos[0]), "c"))
    copy = tmp_path / "copy.png"
    copy.write_bytes(photos[1].read_bytes())
    inspector.ledger.add_to_inbox(ReceivedPhoto("request:k", "b", str(copy), "d"))
    assert uploads.catch_up() == 1
    assert not inspector.ledger.inbox() and not copy.exists() and inspector.ledger.counts()["inspected"] == 1
    uploads.close()


def test_unreadable_photo_does_not_use_up_its_key(client, inspector, photos):
    headers, whole = {"Idempotency-Key": "k"}, photos[0].read_bytes()
    failed = client.post("/parts", content=whole[: len(whole) // 2], headers=headers)
    assert failed.status_code == 422 and failed.json()["decision"] == "NOK"
    assert client.post("/parts", content=whole[: len(whole) // 2], headers=headers).json() == failed.json()
    inspected = client.post("/parts", content=whole, headers=headers)
    assert inspected.status_code == 200 and inspected.json()["key"] == failed.json()["key"]
    assert inspector.ledger.counts() | {"inspected": 1, "not_inspected": 0} == inspector.ledger.counts()
    assert len(kept(inspector)) == 1
    assert client.post("/parts", content=photos[1].read_bytes(), headers=headers).status_code == 422


def test_a_form_is_taken(client, photos):
    data = photos[0].read_bytes()
    part = client.post("/parts", files={"photo": ("left.png", data, "image/png")}).json()
    assert part["verdict"] != "not_inspected" and part["name"] == "left.png" and part["path"].endswith(".png")
    named = client.post("/parts?name=x", files={"a": ("../../up.png", data)}, data={"note": "y"}).json()
    assert named["name"] == "x" and named["score"] == part["score"]
    assert client.post("/parts", files={"a": ("../../up.png", data)}).json()["name"] == "up.png"
    kind = "multipart/form-data"
    for answer in (
        client.post("/parts", data={"photo": "no file"}, files={"": ("", b"")}),
        client.post("/parts", content=b"--x\r\nno form", headers={"Content-Type": f"{kind}; boundary=x"}),
        client.post("/parts", content=data, headers={"Content-Type": kind}),
        client.post("/parts", files=[("a", ("a", data)), ("b", ("b", data))]),
    ):
        assert answer.status_code == 400 and "curl" in answer.json()["detail"], answer.text


def test_only_the_bytes_of_an_image_file_are_read(client, inspector, photos):
    data = photos[0].read_bytes()
    refused = client.post("/parts", content=gzip.compress(data), headers={"Content-Encoding": "gzip"})
    assert refused.status_code == 415 and "--data-binary" in refused.json()["detail"]
    for content in (base64.b64encode(data), gzip.compress(data), b'{"image": ""}'):
        failed = client.post("/parts", content=content, headers={"Content-Type": "image/png"})
        assert failed.status_code == 422 and failed.json()["verdict"] == "not_inspected"
    # curl sends a file in this form without an explicit type
    curl = client.post("/parts", content=data, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert curl.status_code == 200
    assert inspector.ledger.counts() | {"inspected": 1, "not_inspected": 3} == inspector.ledger.counts()


def test_a_controller_gets_the_verdict_alone(client, photos):
    part = client.post("/parts?fields=decision", content=photos[0].read_bytes()).json()
    assert part["decision"] in ("OK", "NOK") and "regions" not in part and "alarms" not in part
    assert client.get(f"/parts/{part['id']}?fields=decision").json() == part
    assert client.get("/parts?fields=decision").json() == [part]
    whole = client.get(f"/parts/{part['id']}").json()
    assert whole["decision"] == ("NOK" if whole["verdict"] == "flagged" else "OK") == part["decision"]
    assert "regions" in whole
    assert client.post("/parts?fields=decision", content=b"no photo").json()["decision"] == "NOK"


def test_heads_listing_and_umlauts(client, photos):
    for path in ("/", "/health", "/page.css"):
        answer = client.head(path)
        assert answer.status_code == 200 and not answer.content
    assert "POST   /parts" in client.get("/docs").text and "curl" in client.get("/docs").text
    key = "Prüfling 7".encode()
    part = client.post("/parts", content=photos[0].read_bytes(), headers={b"Idempotency-Key": key}).json()
    assert part["key"] == "request:Prüfling 7"
    assert client.get("/parts/", follow_redirects=False).status_code == 404


def test_a_table_without_formulas(inspector, photos):
    app = create_app(inspector, WebConfig(), csv="excel_english")
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for name in ("=cmd()", "+1", "-1", "@x", "plain", "a\u202egnp.exe"):
            client.post("/parts", params={"name": name}, content=photos[0].read_bytes())
        text = client.get("/parts.csv").text
        page = client.get("/parts").json()
    assert text.startswith("\ufeff")
    names = [row["name"] for row in csv.DictReader(io.StringIO(text[1:]))]
    assert names == ["'=cmd()", "'+1", "'-1", "'@x", "plain", "a\ufffdgnp.exe"]
    assert page[0]["name"] == "a\ufffdgnp.exe"


def test_a_photo_that_could_not_be_recorded_leaves_no_file(client, inspector, photos, monkeypatch):
    def held(*arguments, **fields):
        raise LedgerUnavailableError("locked")

    with monkeypatch.context() as locked:
        locked.setattr(Ledger, "add_to_inbox", held)
        for _ in range(3):
            assert client.post("/parts", content=photos[0].read_bytes()).status_code == 503
    assert kept(inspector) == []


def test_a_known_verdict_is_returned_while_nothing_can_be_saved(client, photos, monkeypatch):
    first, second = (path.read_bytes() for path in photos[:2])
    part = client.post("/parts", content=first, headers={"Idempotency-Key": "k"}).json()

    def full(path):
        raise OSError("full")

    monkeypatch.setattr(module, "whole_file", full)
    again = client.post("/parts", content=first, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (200, part)
    assert client.post("/parts", content=second, headers={"Idempotency-Key": "k"}).status_code == 422
    assert client.post("/parts", content=second).status_code == 503


def test_a_full_disk_is_not_healthy(client, monkeypatch):
    assert client.get("/health").status_code == 200
    usage = inspector_module.shutil.disk_usage(".")
    monkeypatch.setattr(inspector_module.shutil, "disk_usage", lambda place: usage._replace(free=1000))
    refused = client.get("/health")
    assert refused.status_code == 503 and "full" in refused.json()["detail"]


def test_slow_uploads_block_no_request(inspector, photos, monkeypatch):
    """A part joins the queue after its photo is received, so that slow uploads do not fill the queue."""
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.5)
    uploads, begun = module.Uploads(inspector, WebConfig()), []

    async def never():
        begun.append(True)
        await asyncio.Event().wait()

    async def whole():
        return {"type": "http.request", "body": photos[0].read_bytes(), "more_body": False}

    async def requests():
        slow = [asyncio.create_task(uploads.read(Request(SCOPE, never))) for _ in range(64)]
        while len(begun) < 64:
            await asyncio.sleep(0)
        assert uploads.waiting_photos == 0
        part = await uploads.receive("", "", await uploads.read(Request(SCOPE, whole)))
        return part, await asyncio.gather(*slow, return_exceptions=True)

    part, slow = asyncio.run(requests())
    uploads.close()
    assert part.status == "inspected"
    assert [(type(error), error.status) for error in slow] == [(module.RequestError, 408)] * 64
    uploads.waiting_photos = 2
    with pytest.raises(module.RequestError, match="503"):
        asyncio.run(uploads.read(Request(SCOPE, whole)))


def test_uploads_take_bounded_memory(inspector, monkeypatch):
    monkeypatch.setattr(module, "MAX_ARRIVING_PHOTOS", 2)
    with client_of(inspector, max_megabytes=0.001) as client:
        uploads = client.app.state.uploads
        uploads.arriving_bytes = 1500
        refused = client.post("/parts", content=b"x" * 900)
        assert refused.status_code == 503 and refused.headers["Retry-After"]
        assert uploads.arriving_bytes == 1500


def test_a_disconnected_client_is_one_line_in_the_log(inspector, caplog):
    app = create_app(inspector, WebConfig())
    messages = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def send(message):
        pass

    with caplog.at_level(logging.WARNING):
        asyncio.run(app(dict(SCOPE), receive, send))
    (record,) = [record for record in caplog.records if record.name.startswith("codegraph")]
    assert "disconnected" in record.message and not record.exc_info
    assert inspector.ledger.counts()["not_inspected"] == 0


def test_a_preview_is_made_once_and_one_at_a_time(client, photos, monkeypatch):
    part = client.post("/parts", content=photos[0].read_bytes()).json()["id"]
    at_once, most, drawn = 0, 0, 0
    load, release, queued = module.preview, threading.Event(), []
    drawing = client.app.state.uploads.preview_thread
    submit = drawing.submit

    def slow(*arguments):
        nonlocal at_once, most, drawn
        at_once, drawn = at_once + 1, drawn + 1
        most = max(most, at_once)
        release.wait(20)
        at_once -= 1
        return load(*arguments)

    monkeypatch.setattr(module, "preview", slow)
    monkeypatch.setattr(module, "CACHED_PREVIEWS", 1)
    monkeypatch.setattr(drawing, "submit", lambda *work: (queued.append(work), submit(*work))[1])
    other = client.post("/parts", content=photos[1].read_bytes()).json()["id"]
    places = [f"/parts/{number}/photo" for number in (part, part, part, other, other)]
    with ThreadPoolExecutor(len(places)) as pool:
        answers = []
        for number, place in enumerate(places, 1):
            answers.append(pool.submit(client.get, place))
            wait_until(lambda number=number: len(queued) == number)
        release.set()
    assert [answer.result().status_code for answer in answers] == [200] * 5
    assert most == 1 and drawn == 2
    client.get(places[0])
    before = drawn
    assert client.get(places[0]).status_code == 200 and drawn == before


def test_each_of_two_hundred_simultaneous_uploads_is_a_row(bank, ledger, photos, tmp_path, monkeypatch):
    """Each is a row in any order; uploads beyond the limit are refused and can be sent again."""
    inspector = Inspector(bank, ledger, tmp_path)
    monkeypatch.setattr(inspector, "_read_and_score", lambda photo: MonitoredPart(inspected_part(photo)))
    monkeypatch.setattr(module, "MAX_WAITING", 1000)
    with client_of(inspector) as client:

        def sent(number: int) -> int:
            content = photos[number % 3].read_bytes()
            return client.post("/parts", content=content, headers={"Idempotency-Key": str(number)}).status_code

        assert at_the_same_time(sent, range(200)) == [200] * 200
    assert ledger.counts()["inspected"] == 200 == len({part.key for part in ledger.latest(500)})
    assert ledger.inbox() == []


def test_path_traversal_finds_nothing(client, inspector, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    for path in ("/../secret.png", "/page.js/../../secret.png", "/%2e%2e/secret.png", "/parts/..%2fsecret.png/photo",
                 "/alarms/../secret.png", "//etc/passwd", "/parts/1/photo/../../../secret.png"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code in (400, 404, 422) and b"secret" not in answer.content, path
