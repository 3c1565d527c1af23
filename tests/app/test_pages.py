"""The pages of the app in a browser, with finished runs: charts, drawn areas, and accessibility."""

import json
import os

import pytest
from fastapi.responses import JSONResponse
from PIL import Image

from codegraph_jax.app import line_pages, service
from codegraph_jax.app.jobs import LINE
from codegraph_jax.data.roi import Roi
from codegraph_jax.line.responses import LineSummary
from tests.app.conftest import write_run
from tests.app.person import Person, served
from tests.support.accessibility import barriers_by_colours

ESTIMATE = {"network": "small", "size": 56, "seconds": 120, "networks": ["small"]}


@pytest.fixture
def person(browser, results, monkeypatch):
    """A person who uses the app, which starts no processes."""
    monkeypatch.setattr(service, "_run_estimate", lambda arguments: ESTIMATE)
    with served(results) as (app, address):
        app.state.service.jobs._launch = lambda job: None
        browser.view(1200, 900)
        somebody = Person(browser, address)
        somebody.service = app.state.service
        yield somebody


@pytest.fixture
def photos(tmp_path):
    place = tmp_path / "parts"
    place.mkdir()
    for i in range(14):
        Image.new("RGB", (80, 60) if i else (160, 120), (10 * i, 90, 90)).save(place / f"part {i:02d}.png")
    return place


def named(results, run, day, *groups):
    """A run of three photos on a day, with groups: (name, number of photos)."""
    workdir = write_run(results, run)
    entries = [{"name": name, "verdict": "defect", "members": ["x"] * count} for name, count in groups]
    (workdir / "groups.json").write_text(json.dumps({"part": entries}))
    os.utime(workdir / "manifest.json", (86_400 * day, 86_400 * day))


def test_charts_and_a_table_of_recurring_patterns(person, results):
    named(results, "third", 30, ("tool mark", 1), ("rust", 3))
    named(results, "first", 10, ("tool mark", 2))
    named(results, "second", 20, ("tool mark", 0), ("", 2))
    person.enter()
    person.wait_until("document.querySelectorAll('.recurs figure').length === 2")
    figures = person.browser.evaluate(
        "[...document.querySelectorAll('.recurs figcaption')].map((one) => one.textContent)"
    )
    assert figures == ["tool mark defect1 of 3 photos; before, on Jan 21: 0 of 3", "rust defect3 of 3 photos"]
    bars = person.browser.evaluate(
        "[...document.querySelectorAll('.recurs figure:first-child rect')].map((one) => one.height.baseVal.value)"
    )
    assert [round(height / 70, 2) for height in bars] == [0.67, 0.02, 0.33]
    label = person.browser.evaluate("document.querySelector('.recurs svg').getAttribute('aria-label')")
    assert label == "tool mark: 1 of 3 photos; before, on Jan 21: 0 of 3"
    rows = person.browser.evaluate(
        "[...document.querySelectorAll('#recurs tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert rows == [
        ["Name", "first", "second", "third"], ["tool mark", "2 of 3", "0 of 3", "1 of 3"], ["rust", "–", "–", "3 of 3"],
    ]  # fmt: skip
    assert person.browser.problems == []


def areas(person):
    return person.browser.evaluate("[...document.querySelectorAll('.corners input')].map((input) => input.value)")


def test_areas_are_drawn_typed_undone_and_saved(person, results, photos):
    write_run(results, "earlier")
    person.enter()
    person.go("#/new", "[name=path]")
    person.choose(photos)
    person.wait_until("document.querySelector('.strip button')")
    person.browser.click(".strip button:nth-child(2)")
    person.wait_until("document.querySelector('.drawing img')?.complete")
    svg = ".drawing svg"
    person.drag(svg, (0.25, 0.25), (0.4, 0.5), (0.5, 0.75))
    assert areas(person) == ["20,15 40,15 40,45 20,45"]
    for corner in ((0.6, 0.1), (0.9, 0.1), (0.9, 0.5), (0.605, 0.1)):
        person.drag(svg, corner)
    assert areas(person)[1:] == ["48,6 72,6 72,30"]
    person.click_text("Undo")
    assert len(areas(person)) == 1 and person.holds("document.querySelector('.drawing polyline')")
    person.click_text("Clear")
    assert areas(person) == [] and not person.holds("document.querySelector('.drawing polyline')")
    person.click_text("Undo")
    person.click_text("Undo")
    person.set(".drawing ~ .row input", "0,0 80,0 0,61")
    assert len(areas(person)) == 1, "a corner outside of the photo"
    person.set(".drawing ~ .row input", "0,0 80,0 0,60")
    assert areas(person) == ["20,15 40,15 40,45 20,45", "0,0 80,0 0,60"]
    person.set(".corners li:first-child input", "20,20 40,20 40,45 20,45")
    # on a photo of another size the areas are stretched, not lost
    person.browser.click(".strip button")
    assert areas(person)[0] == "20,20 40,20 40,45 20,45"
    assert person.browser.text("#areas summary") == "Areas that are not inspected: 2"
    assert barriers_by_colours(person.browser) == []
    person.browser.click(".corners li:last-child button")
    person.click_text("Start the inspection")
    person.wait_until("location.hash === '#/run/parts'")
    assert person.browser.problems == []
    (file,) = (results / ".app" / "areas").iterdir()
    inspected = Roi.load(str(file)).areas_of(["any.png"])[0](80, 60)
    assert not inspected[20:45, 20:40].any() and inspected.sum() >= 80 * 60 - 21 * 26
    (job,) = person.service.state.last_jobs().values()
    assert f"--roi={file}" in job["arguments"]


def test_pages_have_no_barriers(person, results, photos):
    browser = person.browser
    person.enter()
    assert barriers_by_colours(browser) == []  # without runs
    named(results, "second", 20, ("tool mark", 1))
    named(results, "first", 10, ("tool mark", 2))
    (results / "stopped" / ".resume").mkdir(parents=True)
    (results / "banks").mkdir()
    (results / "banks" / "parts.safetensors").write_bytes(b"")
    person.enter()
    person.wait_until("document.querySelectorAll('.runs > li').length === 3")
    assert barriers_by_colours(browser) == []
    person.click_text("Rename")
    assert barriers_by_colours(browser) == []
    person.click_text("Cancel")
    person.go("#/banks", ".plainer")
    assert barriers_by_colours(browser) == []
    person.go("#/new/line/parts.safetensors", ".folders")
    assert barriers_by_colours(browser) == []
    person.click_text("Without a folder")
    person.wait_until("document.querySelector('[data-line]')")
    assert barriers_by_colours(browser) == []
    person.go("#/new", "[name=path]")
    person.choose(photos)
    person.wait_until("/network/i.test(document.querySelector('#estimate').textContent)")
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert barriers_by_colours(browser) == []
    person.click_text("Start the inspection")
    person.wait_until("document.querySelector('.runs .wide')")
    assert barriers_by_colours(browser) == []
    assert browser.problems == []


def test_the_alarms_of_a_running_line_are_counted(person, monkeypatch):
    summary = LineSummary(inspected=9, flagged=2, not_inspected=0, waiting=0, last_alarm=3, last_part=9, undelivered=[])
    monkeypatch.setattr(line_pages, "_forward", lambda *request: JSONResponse(summary.model_dump()))
    job = {
        "id": 1,
        "run": "lines/parts-1",
        "kind": LINE,
        "arguments": [],
        "state": "running",
        "message": "",
        "created": 1.0,
    }
    person.service.state.last_jobs = lambda: {job["run"]: job}
    person.service.jobs.address = lambda job: "http://127.0.0.1:1/"
    person.enter()
    person.go("#/lines", "[data-line] .counts")
    counts = "[...document.querySelectorAll('.counts span')].map((one) => one.textContent)"
    assert person.browser.evaluate(counts) == ["9 parts", "2 flagged", "3 alarms"]
