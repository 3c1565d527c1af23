"""The server: the verdicts of scores.json and regions.json, limits, the token, and the OpenAPI description."""

import io
from dataclasses import replace

import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis.specs.openapi.checks import ignored_auth, missing_required_header, positive_data_acceptance

from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.line import uploads
from codegraph_jax.line.app import create_app
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import RECEIVED, Ledger
from codegraph_jax.line.part import Alarm, ReceivedPhoto
from codegraph_jax.line.settings import WebConfig
from codegraph_jax.tasks.serve import read_token
from tests.line.conftest import client_of, marked_copy

TOKEN = "a token that is long enough"


def test_a_photo_gets_the_verdict_of_the_bank(client, bank, photos, tmp_path):
    path = marked_copy(photos[0], tmp_path / "marked.png")
    answer = client.post("/parts?name=left side", content=path.read_bytes(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    part = answer.json()
    inspection = bank.inspect([str(path)])
    assert part["score"] == pytest.approx(inspection.scores[0], abs=1e-6)
    assert part["verdict"] == "flagged" and inspection.flagged[0]
    assert part["name"] == "left side" and part["path"].endswith(".png")
    (region,) = part["regions"]
    left, top, right, bottom = region["box"]
    assert region["region_length"] >= region["region_width"] > 0
    assert 0 <= left < right <= 64 and 0 <= top < bottom <= 64 and region["peak_score"] >= part["threshold"] - 1e-3
    assert client.get(f"/parts/{part['id']}").json() == part
    assert client.get("/parts").json() == [part]
    assert client.get("/parts?flagged=true&before=1").json() == []
    assert client.get("/scores").json() == [
        {name: part[name] for name in ("id", "score", "threshold")} | {"flagged": True}
    ]
    assert client.get(f"/parts/{part['id']}/photo").content.startswith(b"\xff\xd8")
    assert client.get(f"/parts/{part['id']}/heatmap").content.startswith(b"\x89PNG")
    assert (
        client.get("/summary").json() | {"inspected": 1, "flagged": 1, "last_part": 1} == client.get("/summary").json()
    )
    assert "left side" in client.get("/parts.csv").text
    assert 'codegraph_parts_total{verdict="flagged"} 1.0' in client.get("/metrics").text
    assert client.get("/health").json() == {"status": "ok"}


def test_the_table_has_the_form_of_the_settings(inspector):
    for form, heading in (("plain", "id,key,"), ("excel", "id;key;")):
        app = create_app(inspector, WebConfig(), csv=form)
        assert heading in TestClient(app, base_url="http://127.0.0.1:8000").get("/parts.csv").text


def test_other_bytes_than_a_photo_are_recorded_as_not_inspected(client):
    answer = client.post("/parts", content=b"no photo")
    assert answer.status_code == 422 and answer.json()["verdict"] == "not_inspected" and answer.json()["failure"]
    assert client.get("/parts/1/heatmap").status_code == client.get("/parts/1/photo").status_code == 404
    assert client.post("/parts", content=b"").status_code == 400
    assert client.get("/parts/99").json() == {"detail": "there is no part 99"}
    assert client.get("/alarms/99/sheet").status_code == 404


def test_limits_of_size_queue_and_time(inspector, photos, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_WAITING", 1)
    with client_of(inspector, max_megabytes=0.001) as client:
        assert client.post("/parts", content=b"x" * 2000).status_code == 413
        assert client.post("/parts", content=iter([b"x" * 600] * 3)).status_code == 413
        client.app.state.uploads.waiting_photos = 1
        refused = client.post("/parts", content=b"x")
        assert refused.status_code == 503 and refused.headers["Retry-After"]
    assert inspector.ledger.counts()["not_inspected"] == 0


def test_photos_of_parts_that_pass_need_not_be_kept(inspector, photos):
    with client_of(inspector, keep="high_scores") as client:
        parts = [client.post("/parts", content=path.read_bytes()).json() for path in photos]
    kept = {str(path) for path in (inspector.workdir / RECEIVED).rglob("*.*")}
    assert kept == {part["path"] for part in parts if part["p_value"] <= 0.1} and len(kept) < len(parts)


def test_photos_of_flagged_parts_are_kept_for_any_p_value(inspector, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "KEPT_P_VALUE", -1.0)
    marked = marked_copy(photos[0], tmp_path / "marked.png")
    with client_of(inspector, keep="high_scores") as client:
        parts = [client.post("/parts", content=path.read_bytes()).json() for path in (marked, *photos[1:3])]
    assert [part["decision"] for part in parts] == ["NOK", "OK", "OK"]
    assert [str(path) for path in (inspector.workdir / RECEIVED).rglob("*.*")] == [parts[0]["path"]]


def test_a_token_is_asked_for(inspector):
    with client_of(inspector, TOKEN, host="0.0.0.0") as client:
        for place in ("/parts", "/summary", "/metrics", "/openapi.json", "/alarms", "/parts.csv"):
            assert client.get(place).status_code == 401
            assert client.get(place, headers={"Authorization": f"Bearer {TOKEN} "}).status_code == 401
            assert client.get(place, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.post("/parts", content=b"x").status_code == 401
        for place in ("/", "/page.js", "/page.css", "/health"):
            assert client.get(place).status_code == 200
        assert TOKEN not in client.get("/page.js").text


def test_requests_from_other_pages_are_refused(client):
    assert client.get("/summary", headers={"Host": "attacker.example"}).status_code == 400
    other = client.post("/parts", content=b"x", headers={"Origin": "http://attacker.example"})
    assert other.status_code == 403
    page = client.get("/")
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("text", ["", "short", "x" * 15, "päss" * 10])
def test_weak_tokens_are_refused(tmp_path, text):
    (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="token_file"):
        read_token(WebConfig(token_file=str(tmp_path / "token")))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(WebConfig(token_file=str(tmp_path / "absent")))


def test_the_sheet_of_an_alarm_is_served(client, inspector, photos):
    first = client.post("/parts", content=photos[0].read_bytes()).json()["id"]
    alarm = Alarm("recurrence", "g", "Two parts stand out in the same way.", (first,))
    part = inspector.ledger.by_number(first)
    inspector.ledger.record(replace(part, key="other", alarms=(alarm,)))
    (told,) = client.get("/alarms").json()
    assert told["parts"] == [1, 2] and told["sheet"] == "/alarms/1/sheet"
    assert client.get(told["sheet"]).content.startswith(b"\x89PNG")


def test_server_follows_its_openapi_description(inspector, photos):
    """Every request, valid or not, gets a response that openapi.json describes, never an error of the server."""
    app = create_app(inspector, WebConfig(max_megabytes=0.01))
    for path in photos[:2]:
        inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    checked = set()
    # the body of a photo is any bytes, most of which are not a photo; and the name is optional
    excluded = [positive_data_acceptance, missing_required_header, ignored_auth]
    for result in schema.get_all_operations():
        operation = result.ok()
        _check_operation(operation, excluded)
        checked.add(f"{operation.method.upper()} {operation.path}")
    assert {"POST /parts", "GET /parts", "GET /parts/{part}", "GET /health", "GET /metrics"} <= checked


def _check_operation(operation, excluded) -> None:
    @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def check(case) -> None:
        case.call_and_validate(headers={"Host": "127.0.0.1"}, excluded_checks=excluded)

    check()


def test_undelivered_results_are_in_the_summary_and_the_metrics(client, inspector):
    outbox = inspector.ledger.outbox
    outbox.send_to(["https://host/x?key=secret"])
    inspector.record_failure(ReceivedPhoto("f", "cut.png", ""), "image file is truncated")
    outbox.record_failure(outbox.next(outbox.addresses[0]), "status 400", 0, True)
    (one,) = client.get("/summary").json()["undelivered"]
    assert one == {
        "address": "https://host/x", "waiting": 0, "set_aside": 1, "parts": [1], "error": "status 400",
    }  # fmt: skip
    assert "codegraph_undelivered 1.0" in client.get("/metrics").text
    assert client.post("/undelivered").json()[0]["waiting"] == 1
    assert client.delete("/undelivered").json()[0]["waiting"] == 1, "only results set aside are discarded"
    refused = client.post("/undelivered", headers={"Origin": "http://elsewhere"})
    assert refused.status_code == 403


def test_the_description_is_complete(client):
    described = client.get("/openapi.json").json()
    assert {"message_id", "event", "part"} <= set(described["components"]["schemas"]["Message"]["properties"])
    assert "result" in described["webhooks"]
    assert described["openapi"].startswith("3.1")
    fields = described["components"]["schemas"]["PartOut"]["properties"]
    assert {"score", "p_value", "verdict", "regions", "decision", "failure"} <= set(fields)
    body = described["paths"]["/parts"]["post"]["requestBody"]["content"]
    assert body["image/*"] == {"schema": {"type": "string", "format": "binary"}} and "multipart/form-data" in body


def test_photos_of_twelve_bits_are_shown_in_the_range_of_the_bank(bank, ledger, tmp_path):
    """Cameras leave the upper bits empty: read as sixteen bits, such a photo is nearly black."""
    grey = np.full((40, 40), 2000, np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    with client_of(Inspector(replace(bank, value_range=ValueRange(0, 4095)), ledger, tmp_path)) as client:
        part = client.post("/parts", content=(tmp_path / "deep.png").read_bytes()).json()
        shown = Image.open(io.BytesIO(client.get(f"/parts/{part['id']}/photo").content))
    assert abs(np.asarray(shown).mean() - 2000 / 4095 * 255) < 3


def test_answer_updates_bank_and_undo(bank, photos, tmp_path, monkeypatch):
    def refuse(*_):
        raise BankError("the references of revision 1 are no longer stored")

    path = marked_copy(photos[0], tmp_path / "marked.png")
    home, ledger = tmp_path / "bank.safetensors", Ledger(tmp_path / "line.sqlite")
    bank.save(str(home), "float32")
    inspector = Inspector(bank, ledger, tmp_path, path=str(home))
    with client_of(inspector) as client:
        for name, file in (("marked", path), ("plain", photos[2])):
            client.post(f"/parts?name={name}", content=file.read_bytes())
        flagged, plain = client.get("/parts/1").json(), client.get("/parts/2").json()
        assert (flagged["verdict"], flagged["answer"]) == ("flagged", "") and plain["verdict"] in ("passed", "check")
        assert client.put("/parts/1/answer?defective=false").json()["answer"] == "good"
        assert client.put("/parts/2/answer?defective=true").json()["answer"] == "defective"
        # the same photos again, also after a restart with the bank's file
        again = [client.post("/parts", content=file.read_bytes()).json() for file in (path, photos[2])]
        assert [part["decision"] for part in again] == ["OK", "NOK"]
        assert [part["threshold"] for part in again] == [flagged["threshold"]] * 2
        stored = ReferenceBank.load(str(home), backbone=bank.backbone)
        assert stored.inspect([str(path), str(photos[2])]).flagged.tolist() == [False, True]
        assert [revision.names for revision in stored.history[1:]] == [("1: marked",), ("2: plain",)]
        assert client.delete("/parts/1/answer").status_code == 409, "a later answer has been given"
        with monkeypatch.context() as patch:
            patch.setattr(ReferenceBank, "back_to", refuse)
            refused = client.delete("/parts/2/answer")
        assert (refused.status_code, "no longer stored" in refused.text) == (409, True)
        assert client.delete("/parts/2/answer").json()["answer"] == ""
        assert client.post("/parts", content=photos[2].read_bytes()).json()["decision"] == "OK"
        assert client.put("/parts/1/answer?defective=true").json()["answer"] == "defective"
        assert client.post("/parts", content=path.read_bytes()).json()["verdict"] == "flagged"
        assert client.put("/parts/99/answer?defective=true").status_code == 404
        assert client.put("/parts/1/answer").status_code in (400, 422)
        client.post("/parts", content=b"no photo")
        assert client.put("/parts/7/answer?defective=true").status_code == 409
        assert "defective" in client.get("/parts.csv").text
    ledger.close()


def test_an_answer_that_cannot_be_kept_changes_nothing(inspector, photos, monkeypatch):
    with client_of(inspector) as client:
        client.post("/parts", content=photos[2].read_bytes())
        before = inspector.bank
        inspector._path = "/dev/null/bank.safetensors"
        assert client.put("/parts/1/answer?defective=true").status_code == 503
        assert inspector.bank is before and client.get("/parts/1").json()["answer"] == ""


def test_an_alarm_is_answered_with_a_reason(inspector, photos):
    with client_of(inspector) as client:
        client.post("/parts", content=photos[2].read_bytes())
        part = inspector.ledger.by_number(1)
        alarm = Alarm("drift", "score", "The score has moved.")
        inspector.ledger.record(replace(part, id=0, key="other", alarms=(alarm,)))
        (raised,) = client.get("/alarms").json()
        assert raised["acknowledgement"] == ""
        said = client.put(f"/alarms/{raised['id']}/acknowledgement?reason=a new batch").json()
        assert said["acknowledgement"] == "a new batch" and client.get("/alarms").json() == [said]
        assert client.put("/alarms/9/acknowledgement?reason=x").status_code == 404
