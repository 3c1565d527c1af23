"""All steps from a folder to a line, in a real browser and with real runs of a small network."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from types import SimpleNamespace

import httpx
import pytest
from PIL import Image

from codegraph_jax.app import jobs, service
from codegraph_jax.app.estimate import FALLBACK, USUAL, estimate_folder
from codegraph_jax.app.state import STATE_DIRECTORY
from codegraph_jax.commands.config_files import load_config
from tests.app.person import Person, served
from tests.support import ROOT
from tests.support.accessibility import barriers
from tests.support.commands import codegraph
from tests.support.photos import drawn_parts
from tests.support.waiting import wait_until

SMALL = (
    "--config.backbone.name=dinov2-small --config.backbone.weights=random --config.backbone.image_size=56 "
    "--config.backbone.blocks=1 --config.precision=float32 "
    "--config.report.files=page,heatmaps,masks --config.recurring.defects=off --config.scoring.rescore=off"
)
"""A network of two blocks with random weights."""


@pytest.fixture
def photos(tmp_path):
    place = tmp_path / "drawn parts"
    place.mkdir()
    for i, image in enumerate(drawn_parts(14)):
        Image.fromarray(image).save(place / f"part {i:02d}.png")
    return place


def begin(person, folder):
    person.enter()
    person.click_text("Choose a folder")
    person.choose(folder)
    person.set("[name=flags]", SMALL)
    person.click_text("Start the inspection")
    person.wait_until("location.hash.startsWith('#/run/') && document.querySelector('main').textContent")
    assert "does not exist" not in person.browser.text("main")


def await_report(person):
    person.wait_until("location.pathname.endsWith('report.html') && document.querySelector('.live')", 120)


def printed(person):
    """The printed list shows every flagged photo, also those that were not scrolled into view."""
    person.browser.evaluate("window.print = () => { window.printed = document.body.classList.contains('summary'); }")
    lower = "slider => { slider.value = slider.min; slider.dispatchEvent(new Event('input')); }"
    person.browser.evaluate(f"({lower})(document.querySelector('#slider'))")
    person.wait_until("document.querySelectorAll('#table tbody tr.flagged').length === 14")
    person.browser.view(390, 844, phone=True)
    person.browser.evaluate("document.querySelector('.live details').open = true")
    assert person.holds("document.querySelector('.live details > div').getBoundingClientRect().left >= 0")
    person.browser.view(1280, 800)
    person.click_text("Print the list of flagged photos")
    person.wait_until("window.printed")
    assert "Flagged (14)" in person.browser.text("#summary")
    assert person.browser.evaluate("document.querySelectorAll('#summary .members li').length") == 14
    assert person.holds("[...document.querySelectorAll('#summary img')].every((image) => image.naturalWidth)")
    person.browser.evaluate("dispatchEvent(new Event('afterprint'))")
    person.browser.click("#use-answers")


ESTIMATE = {"network": "small", "size": 56, "seconds": 120, "networks": ["small"]}


class InThread:
    """A thread in place of a process of the app, which would take seconds to load JAX."""

    def __init__(self, command, stdout, **options):
        self.pid, self._status = os.getpid(), None
        self._thread = threading.Thread(target=self._work, args=(command[len(jobs.PROGRAM) :], os.dup(stdout.fileno())))
        self._thread.start()

    def _work(self, words, output):
        with os.fdopen(output, "w") as log:
            ended = codegraph(*words)
            log.write(ended.stdout + ended.stderr)
        self._status = ended.returncode

    def poll(self):
        return self._status

    def wait(self, seconds):
        self._thread.join(seconds)


@pytest.fixture
def in_threads(monkeypatch):
    """Runs in threads; lines are processes."""
    monkeypatch.setattr(service, "_run_estimate", lambda arguments: ESTIMATE)

    def start(command, **options):
        return (subprocess.Popen if "serve" in command else InThread)(command, **options)

    own = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(jobs, "subprocess", own)
    # a run in this process must not be interrupted by a signal
    interrupt = jobs.Jobs._interrupt
    monkeypatch.setattr(jobs.Jobs, "_interrupt", lambda self, job: job["kind"] == jobs.LINE and interrupt(self, job))


def test_from_a_folder_to_applied_answers(browser, results, photos, in_threads):
    with served(results) as (_, address):
        person = Person(browser, address)
        browser.view(1280, 800)
        begin(person, photos)
        # a fast machine shows the report before the progress
        await_report(person)
        person.wait_until("window.report")
        printed(person)
        browser.click("[data-answer=good]")
        person.wait_until("/saved/.test(document.querySelector('.live output').textContent)")
        person.click_text("Apply now")
        person.click_text("Answers applied. Show the updated report")
        person.wait_until("/Your answers are applied: 1 photo/.test(document.querySelector('.run').textContent)")
        person.click_text("‹ All inspections")
        person.wait_until("document.querySelector('.runs .counts')")
        assert "14 photos" in person.browser.text(".runs")
        browser.view(390, 844, phone=True)
        assert browser.evaluate("document.querySelector('header').offsetHeight") < 90, "two lines, not four"
        assert browser.problems == []
        person.browser.click(".runs h3 a")
        await_report(person)
        assert barriers(browser) == []
    (run,) = [path.name for path in results.iterdir() if (path / "manifest.json").is_file()]
    command = json.loads((results / run / "manifest.json").read_text())["command"]
    assert command.startswith("codegraph detect ") and f"--config.data.root={photos}" in command.replace("'", "")
    (photo,) = json.loads((results / run / "review.json").read_text())["photos"]
    assert photo["answer"] == "good"


@pytest.mark.slow
def test_from_a_bank_to_a_line(browser, results, photos, in_threads):
    with served(results) as (_, address):
        person = Person(browser, address)
        begin(person, photos)
        await_report(person)
        person.click_text("Inspect new parts")
        # the page of the banks opens when the bank is saved
        person.wait_until("document.querySelector('.plainer')", 120)
        assert list(results.glob("banks/*.safetensors"))
        person.click_text("Inspect a folder of photos")
        person.choose(photos)
        person.click_text("Start the inspection")
        await_report(person)
        person.click_text("‹ All inspections")
        person.click_text("Reference banks")
        person.click_text("Inspect parts as they arrive")
        person.choose(photos)
        person.click_text("Watch this folder")
        person.wait_until("document.querySelector('[data-line] a.button')", 60)
        line = browser.evaluate("document.querySelector('[data-line] a.button').href")
        assert line.startswith(f"{address}lines/"), "at the app's own address"
        browser.visit(line)
        person.wait_until("document.querySelectorAll('#parts li').length > 3")
        assert barriers(browser) == []
        browser.visit(f"{address}#/lines")
        person.click_text("Stop")
        person.wait_until("/Stopped/.test(document.querySelector('[data-line]').textContent)")
        person.wait_until("/[0-9] parts/.test(document.querySelector('[data-line] .counts')?.textContent)")
        table = browser.evaluate("fetch(document.querySelector('[data-line] a[download]').href).then((a) => a.text())")
        assert table.startswith("id,") and len(table.splitlines()) > 3, "the parts of a stopped line"
        assert browser.problems == []


@pytest.fixture
def start(results):
    """Starts `codegraph app`; returns the process and its address with the key."""
    children = []

    def begin():
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "codegraph_jax", "app", str(results)],
                cwd=ROOT,
                env=os.environ | {"BROWSER": "true"},
                stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
        )
        return children[-1], children[-1].stdout.readline().removeprefix("codegraph: ").strip()

    yield begin
    for child in children:
        child.terminate()
        child.wait(40)


@pytest.mark.slow
def test_a_killed_server_and_its_run_resume(start, results, photos):
    """The next server shows the run that continues; if the run is killed too, it is resumed."""
    with_key = httpx.Client(follow_redirects=True)
    child, address = start()
    base = address.partition("?")[0]
    with_key.get(address)
    place = with_key.post(f"{base}api/open", json={"path": str(photos)}).json()["place"]
    run = with_key.post(f"{base}api/runs", json={"place": place, "flags": SMALL}).json()["run"]

    def about():
        return with_key.get(f"{base}api/runs/{run}").json()

    wait_until(lambda: about().get("progress"), 60)
    with sqlite3.connect(results / STATE_DIRECTORY / "app.sqlite") as state:
        ((pid,),) = state.execute("SELECT pid FROM jobs")
    # otherwise a fast machine would finish it before the next server starts
    os.kill(pid, signal.SIGSTOP)
    child.kill()
    child.wait()
    child, again = start()
    base = again.partition("?")[0]
    with_key.get(again)
    assert about()["state"] == "running", "the run outlives the server"
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: about()["state"] == "interrupted", 20)
    assert with_key.post(f"{base}api/runs/{run}/resume").status_code == 200
    wait_until(lambda: about()["state"] == "finished", 120)
    second, printed = start()
    assert printed == f"codegraph is already open: {again}" and second.wait(20) == 0
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 0
    with_key.close()


def test_the_estimate_names_the_network(photos):
    found = estimate_folder(str(photos), "dinov2-small", 56, "squeeze")
    assert (found["network"], found["size"], found["downloads"]) == ("dinov2-small", 56, False)
    assert 0 < found["seconds"] < 60


def test_the_estimate_uses_the_networks_of_a_detection():
    backbone = load_config("folder").backbone
    assert (backbone.name, backbone.fallback) == (USUAL, FALLBACK)
