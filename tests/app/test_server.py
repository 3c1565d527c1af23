"""The app's server: access, files, and the requests that change runs, folders and answers."""

import io
import json
import os
import zipfile

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from codegraph_jax.app import folders, server
from codegraph_jax.app.folders import encode_path
from codegraph_jax.app.server import create_app
from codegraph_jax.core.progress import PROGRESS_FILE
from codegraph_jax.core.started_command import without_flags
from tests.app.conftest import ADDRESS, KEY, write_run


def photos(place, count=3):
    place.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (50, 40), (i, 90, 90)).save(place / f"part {i}.png")
    return place


# ---- access ----


def test_without_the_key_nothing_is_answered(results):
    write_run(results, "one")
    with TestClient(create_app(results, KEY), base_url=ADDRESS, follow_redirects=False) as client:
        for path in ("/", "/app.js", "/api/state", "/runs/one/report.html", "/?key=wrong", "/api/state?key=" + KEY):
            assert client.get(path).status_code == 401, path
        assert client.post("/api/runs", json={"place": "/"}).status_code == 401
        opened = client.get(f"/?key={KEY}")
        assert opened.status_code == 303 and opened.headers["location"] == "/"
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/api/state").status_code == 200


def test_other_hosts_and_other_pages_are_refused(client):
    assert client.get("/api/state", headers={"host": "attacker.example:8450"}).status_code == 400
    foreign = {"origin": "http://attacker.example"}
    assert client.post("/api/demo", json={}, headers=foreign).status_code == 403
    assert client.request("DELETE", "/api/runs/one", headers=foreign).status_code == 403
    assert client.put("/api/uploads/x?name=a.png", content=b"x", headers={"origin": "null"}).status_code == 403
    answer = client.get("/")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_requests_over_the_size_limit_are_refused(client, monkeypatch):
    monkeypatch.setattr(server, "MAX_BODY_BYTES", 100)
    assert client.post("/api/open", json={"path": "x" * 200}).status_code == 413
    assert client.post("/api/open", content=iter([b"{}"])).status_code == 413


# ---- paths ----


@pytest.mark.parametrize("name", [".app", "../runs", "a/../b", "", ".", "a\\b", "%2e%2e", "a%00b", "x" * 300])
def test_runs_have_plain_names(client, results, name):
    secret = results.parent / "secret.txt"
    secret.write_text("secret")
    for path in (f"/runs/{name}/secret.txt", f"/runs/{name}/report.html", f"/api/runs/{name}", f"/thumbnails/{name}"):
        answer = client.get(path)
        assert answer.status_code in (404, 405) and "secret" not in answer.text.replace("secret.txt", ""), path
    assert client.request("DELETE", f"/api/runs/{name}").status_code in (404, 405)


def test_only_files_of_a_run_are_served(client, results):
    workdir = write_run(results, "one")
    (workdir / "private.txt").write_text("private")
    (results.parent / "outside.png").write_bytes(b"outside")
    (workdir / "link.png").symlink_to(results.parent / "outside.png")
    listing = json.loads((workdir / ".written.json").read_text())["files"]
    (workdir / ".written.json").write_text(json.dumps({"files": [*listing, "link.png", "../outside.png"]}))
    assert client.get("/runs/one/heatmaps/part/a.png.png").headers["content-type"] == "image/png"
    for name in ("private.txt", "link.png", "../outside.png", "%2e%2e/outside.png", ".written.json", "//etc/passwd"):
        assert client.get(f"/runs/one/{name}").status_code == 404, name
    (results / "up").symlink_to(results.parent)
    assert client.get("/api/runs/up").status_code == 404


def test_photos_are_shown_below_opened_folders_only(client, tmp_path):
    inside, outside = photos(tmp_path / "inside"), photos(tmp_path / "outside")
    (inside / "link.png").symlink_to(outside / "part 0.png")
    (inside / "notes.txt").write_text("private")
    preview = "/api/preview?place="
    assert client.get(preview + encode_path(str(inside / "part 0.png"))).status_code == 400
    assert client.post("/api/open", json={"path": str(inside)}).json()["photos"] == 4
    assert client.get(preview + encode_path(str(inside / "part 0.png"))).content.startswith(b"\xff\xd8")
    for other in (outside / "part 0.png", inside / ".." / "outside" / "part 0.png", inside / "link.png",
                  inside / "notes.txt", inside / "none.png", inside):  # fmt: skip
        assert client.get(preview + encode_path(str(other))).status_code == 400, other
    assert client.post("/api/contents", json={"path": str(outside)}).status_code == 400
    assert client.post("/api/runs", json={"place": encode_path(str(outside))}).status_code == 400


def test_hostile_names_arrive_as_text(client, tmp_path):
    place = photos(tmp_path / "<img src=x onerror=alert(1)>", 1)
    odd = os.fsdecode(os.fsencode(str(place)) + b"/\xff\n.png")
    Image.new("RGB", (9, 9)).save(place / "plain.png")
    os.link(place / "plain.png", odd)
    found = client.post("/api/open", json={"path": str(tmp_path)}).json()
    (folder,) = [one for one in found["folders"] if one["photos"] == 3]
    opened = client.post("/api/open", json={"place": folder["place"]})
    assert opened.status_code == 200
    contents = client.post("/api/contents", json={"place": folder["place"]}).json()
    assert contents["photos"] == 3 and contents["sizes"][0] == {"width": 9, "height": 9, "count": 2}
    for thumbnail in contents["thumbnails"]:
        assert client.get("/api/preview", params={"place": thumbnail["place"]}).status_code == 200
    page = client.get("/").text + client.get("/app.js").text
    assert "innerHTML" not in page and "insertAdjacentHTML" not in page


def test_the_contents_of_a_folder_count_skipped_files(client, tmp_path):
    place = photos(tmp_path / "photos", 14)
    (place / "part 0.png").write_bytes(b"no photo")
    (place / "a.pdf").write_bytes(b"x")
    (place / "sub").mkdir()
    Image.new("RGB", (50, 40)).save(place / "sub" / "x.png")
    client.post("/api/open", json={"path": str(place)})
    contents = client.post("/api/contents", json={"path": str(place)}).json()
    assert (contents["photos"], contents["unreadable"], contents["folders"], contents["enough"]) == (15, 1, 2, True)
    assert "skipped, not readable as images: 1 .pdf" in contents["skipped"]
    assert client.post("/api/open", json={"path": str(place / "none")}).status_code == 400
    assert client.post("/api/open", json={"path": "a\0b"}).status_code == 422
    assert client.post("/api/open", json={"place": "/a%00b"}).status_code == 400


# ---- uploads ----


def test_uploads_are_photos_of_a_limited_size(client, results, monkeypatch):
    monkeypatch.setattr(folders, "MAX_PHOTO_BYTES", 1000)
    folder = client.post("/api/uploads", json={"name": "../my parts"}).json()
    assert (results / "uploads" / folder["name"]).is_dir()

    def send(name, content=b"x", to=folder["name"]):
        return client.put(f"/api/uploads/{to}", params={"name": name}, content=content).status_code

    assert send("a.png") == send("a.png") == send("../../b.png") == send("C:\\c.jpg") == 200
    assert sorted(p.name for p in (results / "uploads" / folder["name"]).iterdir()) == [
        "a-2.png", "a.png", "b.png", "c.jpg",
    ]  # fmt: skip
    for name in ("a.exe", "", ".png", "..", "x\n.png", "x" * 300 + ".png", "report.html", ".hidden.png"):
        assert send(name) == 400, name
    assert send("large.png", b"x" * 1001) == send("empty.png", b"") == 400
    assert send("a.png", to="..") in (400, 404, 405) and send("a.png", to="none") == 400
    monkeypatch.setattr(folders, "MAX_UPLOADED_FILES", 4)
    assert send("more.png") == 400
    assert len(list((results / "uploads" / folder["name"]).iterdir())) == 4, "nothing is left over"


# ---- runs ----


def test_runs_of_commands_are_listed(client, results):
    write_run(results, "one")
    (results / "two").mkdir()
    (results / "two" / PROGRESS_FILE).write_text(
        json.dumps({"stage": "network", "done": 5, "total": 10, "seconds": 2, "pid": os.getpid()})
    )
    (results / "three" / ".resume").mkdir(parents=True)
    (results / "other").mkdir()
    runs = {run["run"]: run for run in client.get("/api/state").json()["runs"]}
    assert runs.keys() == {"one", "two", "three"}
    one = runs["one"]
    assert (one["state"], one["photos"], one["flagged"], one["to_check"]) == ("finished", 3, 1, 1)
    assert one["groups"] == [{"name": "<i>rust", "verdict": "defect", "photos": 2}]
    assert (runs["two"]["state"], runs["two"]["progress"]["left"], runs["three"]["state"]) == (
        "running",
        2.6,
        "interrupted",
    )
    assert client.get("/thumbnails/one").content.startswith(b"\xff\xd8")


def test_runs_can_be_renamed_and_deleted(client, results):
    workdir = write_run(results, "one")
    (workdir / "mine.txt").write_text("not of the run")
    assert client.post("/api/runs/one/name", json={"name": "Night <b>"}).status_code == 200
    assert client.get("/api/runs/one").json()["name"] == "Night <b>"
    assert client.request("DELETE", "/api/runs/one").status_code == 200
    assert [path.name for path in workdir.iterdir()] == ["mine.txt"]
    write_run(results, "two")
    client.request("DELETE", "/api/runs/two")
    assert not (results / "two").exists() and client.get("/api/state").json()["runs"] == []


def test_masks_are_exported_as_a_zip_file(client, results):
    write_run(results, "one")
    with zipfile.ZipFile(io.BytesIO(client.get("/runs/one/masks.zip").content)) as archive:
        assert archive.namelist() == ["masks/part/a.png.png"]


def test_only_reports_of_this_version_may_call_the_app(client, results):
    write_run(results, "own <1>")
    write_run(results, "foreign", own_report=False)
    own, foreign = client.get("/runs/own <1>/report.html"), client.get("/runs/foreign/report.html")
    assert "live.js" in own.text and 'content="own &lt;1&gt;"' in own.text
    assert "http-equiv" not in own.text and "connect-src 'self'" in own.headers["content-security-policy"]
    assert foreign.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert "live.js" not in foreign.text


# ---- starting ----


def words_of(client):
    return client.app.state.service.state.last_jobs().popitem()[1]["arguments"]


@pytest.fixture
def no_processes(client):
    client.app.state.service.jobs._launch = lambda job: None
    return client


def test_a_run_is_the_command_that_one_would_type(no_processes, results, tmp_path):
    client, place = no_processes, photos(tmp_path / "parts")
    client.post("/api/open", json={"path": str(place)})
    wanted = {"place": encode_path(str(place)), "size": 224, "false_alarms": "high"}
    wanted["flags"] = "--config.data.pages=each"
    assert client.post("/api/runs", json=wanted).json() == {"run": "parts"}
    assert words_of(client) == [
        "detect", f"--config.data.root={place}", "--size=224", "--false-alarms=high",
        "--config.report.files=page,heatmaps,masks,coco,maps",
        "--config.data.pages=each", f"--workdir={results / 'parts'}",
    ]  # fmt: skip
    assert client.post("/api/runs", json=wanted).json() == {"run": "parts-2"}
    state = client.get("/api/state").json()
    assert [run["state"] for run in state["runs"]] == ["waiting", "waiting"]
    assert [folder["name"] for folder in state["recent"]] == [str(place)]
    for more in ("--config=evil.py", "--workdir=/x", "word", "--out=/x", '--config.data.root="', "--review=x"):
        assert client.post("/api/runs", json=wanted | {"flags": more}).status_code == 400, more
    assert client.post("/api/runs", json=wanted | {"network": "--x"}).status_code == 422
    assert client.post("/api/runs", json=wanted | {"bank": "../x.safetensors"}).status_code == 404


@pytest.mark.parametrize("state", ["waiting", "running", "failed", "interrupted"])
def test_a_run_is_listed_before_it_has_written_anything(no_processes, tmp_path, state):
    client, place = no_processes, photos(tmp_path / "parts")
    client.post("/api/open", json={"path": str(place)})
    client.post("/api/runs", json={"place": encode_path(str(place))})
    service = client.app.state.service
    service.jobs.stop()
    service.state.change_job(1, state=state, message="no setting has this name" if state == "failed" else "")
    (run,) = client.get("/api/state").json()["runs"]
    assert (run["state"], run["name"]) == (state, "parts")
    assert ("setting" in run["message"]) == (state == "failed")
    if state in ("failed", "interrupted"):
        assert client.post("/api/runs/parts/resume", json={}).status_code == 200
        client.post("/api/runs/parts/cancel", json={})
        assert client.request("DELETE", "/api/runs/parts").status_code == 200
        assert client.get("/api/state").json()["runs"] == []


def test_the_answers_of_an_earlier_run_and_drawn_areas(no_processes, results, tmp_path):
    client, place = no_processes, photos(tmp_path / "week 2")
    client.post("/api/open", json={"path": str(place)})
    write_run(results, "one")
    drawn = {"excluded": [[[0, 0], [9, 0], [9, 9]]], "size": [50, 40]}
    wanted = {"place": encode_path(str(place)), "answers_of": "one", "areas": drawn}
    assert "answer in its report first" in client.post("/api/runs", json=wanted).json()["detail"]
    (results / "one" / "review.json").write_text("{}")
    assert client.post("/api/runs", json=wanted | {"roi": "/x.png"}).status_code == 400, "drawn and named"
    run = client.post("/api/runs", json=wanted).json()["run"]
    file = results / ".app" / "areas" / f"{run}.json"
    assert f"--review={results / 'one' / 'review.json'}" in words_of(client) and f"--roi={file}" in words_of(client)
    assert json.loads(file.read_text()) == drawn
    listed = client.get("/api/state").json()["runs"]
    assert [found["name"] for found in listed if found["run"] == run] == ["week 2"]
    client.post(f"/api/runs/{run}/cancel", json={})
    assert client.request("DELETE", f"/api/runs/{run}").status_code == 200 and not file.exists()


def test_answers_of_two_windows_are_merged(client, results):
    write_run(results, "one")
    first = {"kind": "photo", "key": "k1", "value": {"answer": "good", "note": ""}}
    second = {"kind": "photo", "key": "k2", "value": {"answer": "defective", "note": "rim"}}
    client.post("/api/runs/one/answers", json={"changes": [first]})
    revision = client.get("/api/runs/one/answers").json()["revision"]
    client.post("/api/runs/one/answers", json={"changes": [second]})
    assert client.get("/api/runs/one/answers").json()["answers"] == [first, second]
    assert client.get(f"/api/runs/one/answers?since={revision}").json()["answers"] == [second]
    client.post("/api/runs/one/answers", json={"changes": [first | {"value": None}]})
    assert client.get(f"/api/runs/one/answers?since={revision}").json()["answers"] == [second, first | {"value": None}]
    assert client.post("/api/runs/one/answers", json={"changes": [first | {"kind": "x"}]}).status_code == 422


def test_answers_are_applied_by_the_command_of_the_run(no_processes, results):
    client = no_processes
    write_run(results, "one", command="codegraph detect /photos --review old.json --size 224 --out=x")
    assert client.post("/api/runs/one/review", json={"text": "{}"}).status_code == 200
    review = results / ".app" / "reviews" / "one.json"
    assert review.read_text() == "{}"
    assert words_of(client) == [
        "detect", "/photos", "--size", "224", f"--review={review}", f"--workdir={results / 'one'}",
    ]  # fmt: skip
    assert client.post("/api/runs/one/bank", json={"name": "x"}).status_code == 400, "one job at a time"
    client.post("/api/runs/one/cancel", json={})
    assert client.post("/api/runs/one/bank", json={"name": "../my bank"}).status_code == 200
    assert words_of(client)[-3:] == [
        f"--save-bank={results / 'banks'}/{words_of(client)[-3].rpartition('/')[2]}",
        f"--review={review}", f"--workdir={results / 'one'}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    ["codegraph detect /photos --config=/evil.py", "python main.py --config=evil.py", "codegraph detect --flagfile=x",
     "codegraph detect --config evil.py /x", "codegraph detect /x --backbone=evil.py:Net",
     "codegraph detect --config.backbone.name evil:Net /x", "codegraph detect /x --config.scoring.score=/e.py:f",
     "codegraph serve bank", "rm -rf /", ""],
)  # fmt: skip
def test_a_manifest_names_no_code(no_processes, results, command):
    write_run(results, "one", command=command)
    answer = no_processes.post("/api/runs/one/review", json={"text": "{}"})
    assert answer.status_code == 400 and "cannot repeat" in answer.json()["detail"]
    assert no_processes.app.state.service.state.last_jobs() == {}


def test_lines_are_started_with_bank_folder_and_receivers(no_processes, results, tmp_path):
    client = no_processes
    (results / "banks").mkdir()
    (results / "banks" / "parts.safetensors").write_bytes(b"")
    assert client.get("/api/state").json()["banks"][0]["bank"] == "parts.safetensors"
    assert client.post("/api/lines", json={"bank": "parts.safetensors"}).json() == {"line": "lines/parts-1"}
    assert words_of(client) == [
        "serve", str(results / "banks" / "parts.safetensors"), "--port=0", f"--workdir={results / 'lines' / 'parts-1'}",
    ]  # fmt: skip
    assert client.post("/api/lines", json={"bank": "parts.safetensors", "path": str(tmp_path)}).status_code == 400
    sent = {"bank": "parts.safetensors", "send": f" https://host/x?key=secret , {tmp_path}/results.csv"}
    assert client.post("/api/lines", json=sent).json() == {"line": "lines/parts-2"}
    assert words_of(client)[3] == f"--send=https://host/x?key=secret,{tmp_path}/results.csv"
    assert client.get("/api/state").json()["lines"][0]["send"] == f"https://host/x, {tmp_path}/results.csv"
    for send, said in (("ftp://host/x", "https://"), ("results.csv", "give the whole path")):
        refused = client.post("/api/lines", json=sent | {"send": send})
        assert refused.status_code == 400 and said in refused.json()["detail"]
    for path, said in (("banks/parts.safetensors", "uses this reference bank"), ("lines/parts-1", "stop it first")):
        refused = client.request("DELETE", f"/api/{path}")
        assert refused.status_code == 400 and said in refused.json()["detail"]
    for name in ("parts-1", "parts-2"):
        assert client.post(f"/api/lines/{name}/stop", json={}).status_code == 200
    assert client.get("/api/state").json()["lines"][-1]["state"] == "cancelled"
    (results / "lines" / "parts-1" / "received").mkdir(parents=True)
    (results / "lines" / "parts-1" / "line.sqlite-wal").touch()
    for path in ("lines/parts-1", "banks/parts.safetensors"):
        assert client.request("DELETE", f"/api/{path}").status_code == 200
        assert client.request("DELETE", f"/api/{path}").status_code == 404
    state = client.get("/api/state").json()
    assert state["banks"] == [] and [line["line"] for line in state["lines"]] == ["lines/parts-2"]
    assert not (results / "lines" / "parts-1").exists() and (results / "lines").is_dir()


def test_a_bank_replaces_a_bank_of_its_own_inspection_only(no_processes, results):
    client = no_processes
    for run in ("one", "two"):
        write_run(results, run, command="codegraph detect /photos")
    saved = client.post("/api/runs/one/bank", json={"name": "Parts of May"})
    assert saved.status_code == 200 and words_of(client)[-2] == f"--save-bank={results}/banks/Parts_of_May.safetensors"
    (results / "banks" / "Parts_of_May.safetensors").write_bytes(b"")
    client.app.state.service.jobs.cancel("one")  # after it has saved the bank
    refused = client.post("/api/runs/two/bank", json={"name": "Parts of May"})
    assert refused.status_code == 400 and "'Parts_of_May' belongs to another inspection" in refused.json()["detail"]
    assert client.post("/api/runs/one/bank", json={"name": "Parts of May"}).status_code == 200
    (results / "banks" / "two.safetensors").write_bytes(b"")
    assert client.post("/api/runs/two/bank", json={"name": ""}).status_code == 200
    assert words_of(client)[-2] == f"--save-bank={results}/banks/two-2.safetensors", "a free name is the default"


def test_flags_are_removed_with_their_values():
    words = ["detect", "a", "--review", "x", "--size=1", "--config.review=y", "-out", "b", "c"]
    assert without_flags(words, "review", "out") == ["detect", "a", "--size=1", "c"]
