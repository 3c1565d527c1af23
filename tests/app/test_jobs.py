"""Processes of the app: one at a time; cancelled, killed, taken over by the next server."""

import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing

import pytest

from codegraph_jax.app import jobs as module
from codegraph_jax.app.jobs import LINE, Jobs
from codegraph_jax.app.main import main
from codegraph_jax.app.state import STATE_DIRECTORY, VERSION, State
from codegraph_jax.core.errors import UserError
from tests.support.waiting import wait_until

PROGRAM = """
import json, pathlib, signal, sys, time
place, action = pathlib.Path(sys.argv[1]), sys.argv[2]
place.mkdir(parents=True, exist_ok=True)
print("listening on http://127.0.0.1:1234; end with Ctrl+C", flush=True)
if action == "fail":
    print("working", file=sys.stderr)
    sys.exit("error: config.data.root: '/x' does not exist")
if action == "stay":
    signal.signal(signal.SIGINT, lambda *_: None)
(place / "begun").touch()
while action == "stay":
    time.sleep(0.01)
while action == "wait" and not (place / "go").exists():
    time.sleep(0.01)
(place / "manifest.json").write_text(json.dumps({}))
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "-c", PROGRAM))
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.5)
    state = State(tmp_path / STATE_DIRECTORY / "app.sqlite")
    jobs = Jobs(state, tmp_path)
    jobs.start()
    yield state, jobs, tmp_path
    jobs.stop()
    state.close()


def job_state(state, run):
    return state.last_jobs()[run]["state"]


def begin(jobs, results, run, kind="detect", action="wait"):
    jobs.add(kind, run, [str(results / run), action])


def test_inspections_run_one_after_the_other_and_lines_beside_them(made):
    state, jobs, results = made
    begin(jobs, results, "a")
    begin(jobs, results, "b", action="end")
    begin(jobs, results, "lines/l", LINE)
    wait_until((results / "a" / "begun").exists)
    wait_until((results / "lines" / "l" / "begun").exists)
    assert job_state(state, "b") == "waiting"
    line = next(job for job in state.last_jobs().values() if job["kind"] == LINE)
    assert jobs.address(line) == "http://127.0.0.1:1234"
    (results / "a" / "go").touch()
    wait_until(lambda: job_state(state, "b") == "done")
    assert job_state(state, "a") == "done"
    jobs.stop()
    assert job_state(state, "lines/l") == "stopped"


def test_a_failure_keeps_its_message(made):
    state, jobs, results = made
    begin(jobs, results, "a", action="fail")
    wait_until(lambda: job_state(state, "a") == "failed")
    (job,) = state.last_jobs().values()
    assert job["message"] == "config.data.root: '/x' does not exist" and "working" in jobs.log(job["id"])


def test_cancel_ends_the_process(made):
    state, jobs, results = made
    begin(jobs, results, "a")
    begin(jobs, results, "b")
    wait_until((results / "a" / "begun").exists)
    pid = state.jobs("running")[0]["pid"]
    jobs.cancel("b")
    jobs.cancel("a")
    wait_until(lambda: not module.psutil.pid_exists(pid))
    assert job_state(state, "a") == job_state(state, "b") == "cancelled" and not (results / "b").exists()


def test_a_resumed_run_waits_until_the_cancelled_process_has_ended(made):
    """Otherwise the second process would find the directory of the run locked."""
    state, jobs, results = made
    begin(jobs, results, "a", action="stay")
    wait_until((results / "a" / "begun").exists)
    pid = state.jobs("running")[0]["pid"]
    jobs.cancel("a")
    begin(jobs, results, "a", action="end")
    wait_until(lambda: job_state(state, "a") == "done")
    assert not module.psutil.pid_exists(pid)


@pytest.mark.parametrize("killed", [False, True])
def test_the_next_server_takes_over(made, killed):
    """The state after kill -9 of the server: no end is recorded, and the process continues or has died too."""
    state, jobs, results = made
    begin(jobs, results, "a")
    wait_until((results / "a" / "begun").exists)
    jobs._stopping = True
    jobs._thread.join()
    children, jobs._children = jobs._children, {}
    if killed:
        os.kill(state.jobs("running")[0]["pid"], signal.SIGKILL)
    following = Jobs(state, results)
    following.start()
    if not killed:
        time.sleep(0.3)
        assert job_state(state, "a") == "running"
        (results / "a" / "go").touch()
    wait_until(lambda: job_state(state, "a") == ("interrupted" if killed else "done"))
    following.stop()
    for child in children.values():
        child.wait()


@pytest.mark.parametrize("version", [None, 0, VERSION + 1])
def test_a_state_of_another_version_is_refused(tmp_path, version):
    path = tmp_path / STATE_DIRECTORY / "app.sqlite"
    path.parent.mkdir()
    if version is None:
        path.write_text("not a database " * 100)
    else:
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("CREATE TABLE folders (path TEXT PRIMARY KEY, opened REAL NOT NULL, used INTEGER NOT NULL)")
            other.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(UserError, match="app.sqlite: cannot be used .*; move it away") as refused:
        main(str(tmp_path))
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    path.unlink()
    for _ in range(2):
        State(path).close()


def test_answers_and_folders_outlive_the_server(tmp_path):
    path = tmp_path / "app.sqlite"
    state = State(path)
    odd = os.fsdecode(b"/photos/\xff")
    state.remember_folder(odd, inspected=True)
    state.store_answers("run", [("photo", "k", {"verdict": "good"})])
    other = State(path)  # the lock would refuse a second server; the file allows two
    assert other.recent_folders() == [odd] and other.answers("run")[0]["value"] == {"verdict": "good"}
    assert json.dumps(other.names()) == "{}"
    state.close()
    other.close()
