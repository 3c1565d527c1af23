"""Answers, notes and thresholds on the page of a report, in the browser."""

import csv
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from codegraph_jax.config import Config, InspectConfig, ReportConfig
from codegraph_jax.consistency.decision import Answers
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.consistency.review import ManualThreshold, PhotoReview, Review
from codegraph_jax.core.progress import Clock
from codegraph_jax.report.heatmaps import Scale
from codegraph_jax.report.page import STORE_FORMAT, write_page
from codegraph_jax.report.photo_images import make_images
from codegraph_jax.report.records import make_records
from codegraph_jax.report.results import write_results
from tests.report.opened_page import CHOOSE, asked, column, opened, review_of, settled, verdicts_of
from tests.report.outcomes import NAMES, make_outcome, with_scores
from tests.support.browser import Browser


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty photos whose scores overlap; by their names the last thirty are defective."""
    root = tmp_path_factory.mktemp("many")
    names = [f"{'bad' if i >= 30 else 'good'} {i}.png" for i in range(60)]
    outcome = make_outcome(root / "data", names, "part", anomalous=0, recurring=0, image_size=(16, 12))
    result = with_scores(outcome.result, np.linspace(0.2, 0.5, 60))
    write_results(root / "out", Config(), [dataclasses.replace(outcome, result=result)], Clock())
    return root / "out" / "report.html"


def answer_by_name(browser: Browser, keys: int) -> dict[str, str]:
    said = {}
    for _ in range(keys):
        name = asked(browser)
        said[name] = "defective" if name.startswith("bad") else "good"
        browser.press(said[name][0])
    return said


def test_eight_keys_set_the_threshold_and_are_kept_for_the_next_run(browser, many):
    opened(browser, many)
    before = browser.evaluate("document.title")
    assert browser.evaluate("document.querySelector('#save-review').disabled") is True
    said = answer_by_name(browser, 8)
    assert len(said) == 8, "each key asks for another photo"
    assert browser.evaluate("document.title") != before
    found = verdicts_of(browser)
    flagged = {number for number, verdict in found.items() if verdict == "flagged"}
    right = {str(number) for number in range(30, 60)}
    assert len(flagged ^ right) <= 3
    assert set(found.values()) == {"flagged", "to check", "passed"}
    counts = {kind: int(browser.text(f"[data-count={kind}]")) for kind in ("flagged", "check", "passed")}
    assert counts["flagged"] == len(flagged) == int(browser.text("#flagged")) and sum(counts.values()) == 60
    assert re.fullmatch(
        r"(About \d+|Probably none|None) of \d+ good parts .*, "
        r"(about \d+|probably none|none) of \d+ defective parts .*\.",
        browser.text("#effect"),
    )
    assert browser.text("#answer-count") == "So far: 8 photos."
    review = review_of(browser)
    assert review["format"] == "codegraph-review-5" and review["patterns"] == []
    assert {photo["name"]: photo["answer"] for photo in review["photos"]} == said
    keys = {f"part {photo['name']}": photo["key"] for photo in review["photos"]}
    assert all(hashlib.sha256(name.encode()).hexdigest() == key for name, key in keys.items())
    assert review["thresholds"] == review["max_defective"] == {}
    command = browser.text("#command")
    assert command.startswith("codegraph detect") and command.endswith("--review=~/Downloads")
    assert browser.problems == []


SAVED_FILE = """(async () => {
  let kept; const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { kept = blob; return make.call(URL, blob); };
  document.querySelector("#spreadsheet").click();
  URL.createObjectURL = make;
  return [...new Uint8Array(await kept.arrayBuffer())];
})()"""


def spreadsheet(browser: Browser) -> list[list[str]]:
    data = bytes(browser.evaluate(SAVED_FILE))
    assert data.startswith(b"\xef\xbb\xbf"), "by which a spreadsheet detects UTF-8"
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_the_spreadsheet_equals_the_table_of_the_page(browser, many, page):
    opened(browser, many)
    for _ in range(4):
        browser.click(f"[data-answer={'defective' if asked(browser).startswith('bad') else 'good'}]")
        settled(browser)
    heading, *rows = spreadsheet(browser)
    assert heading[:2] == ["name", "verdict"] and {"probability", "Your answer", "score", "file"} <= set(heading)
    listed = browser.evaluate("[...document.querySelectorAll('#table tbody .name')].map((name) => name.textContent)")
    assert [row[0] for row in rows] == listed, "in the order of the page"
    answers = [row[heading.index("Your answer")] for row in rows]
    assert len(answers) - answers.count("") == 4 and set(answers) <= {"", "good", "defective"}
    opened(browser, page)
    names = [row[0] for row in spreadsheet(browser)[1:]]
    assert len(names) == len(NAMES) + 12 and "\"quoted\" & 'single'.png" in names
    assert browser.problems == []


def test_the_name_of_a_recurring_defect_is_in_table_and_spreadsheet_at_once(browser, page):
    opened(browser, page)
    browser.evaluate(
        "(form => { form.elements.name.value = '=tool mark'; form.dispatchEvent(new Event('input')); })"
        "(document.querySelector('form[data-pattern]'))"
    )
    listed = browser.evaluate("[...document.querySelectorAll('#table td.recurring')].map((cell) => cell.textContent)")
    assert listed.count("=tool mark") >= 3
    heading, *rows = spreadsheet(browser)
    cells = [row[heading.index("recurring")] for row in rows]
    assert cells.count("'=tool mark") == listed.count("=tool mark"), "not read as a formula"


def test_the_probability_of_a_defect_follows_the_answers(browser, many):
    opened(browser, many)
    assert all(shown.endswith("good parts") for shown in column(browser, "rarity"))
    said = answer_by_name(browser, 8)
    browser.evaluate("new Promise(r => setTimeout(r, 50))")
    shown = column(browser, "rarity")
    likely = [int(found[1]) for value in shown if (found := re.search(r"defective: .*?(\d+)%", value))]
    assert len(likely) == 52 and likely == sorted(likely, reverse=True) and likely[0] > 90 and likely[-1] < 10
    bad = list(said.values()).count("defective")
    assert shown[:bad] == ["you: defective"] * bad and shown[bad - 8 :] == ["you: good"] * (8 - bad)
    assert "enough for most sets" in browser.text("#progress")


def test_photos_to_check_are_opened_one_by_one(browser, many):
    opened(browser, many)
    browser.click("button[data-count=check]")
    assert set(verdicts_of(browser).values()) == {"to check"}
    browser.click("#one-by-one")
    first = browser.text("#viewer-name")
    browser.press("d")
    browser.press("ArrowRight")
    assert browser.text("#position").startswith("2 of ") and browser.text("#viewer-name") != first
    browser.press("ArrowLeft")
    assert browser.text("#viewer-name") == first, "answers do not change the list of opened photos"


def test_a_photo_with_a_low_score_is_beside_the_question(browser, many):
    opened(browser, many)
    usual = "document.querySelector('#usual .frame')"
    assert browser.evaluate(f"{usual}.getAttribute('aria-label')") == "Open good 15.png"
    browser.evaluate(f"{usual}.click()")
    browser.press("d")
    browser.press("Escape")
    assert browser.evaluate(f"{usual}.getAttribute('aria-label')") == "Open good 16.png"


def test_buttons_answer_and_every_answer_can_be_undone(browser, many):
    opened(browser, many)
    start, first = verdicts_of(browser), asked(browser)
    browser.click("[data-answer=defective]")
    second = asked(browser)
    browser.click("[data-answer=good]")
    browser.press("u")
    assert browser.text("#answer-count") == "So far: 3 photos."
    assert [photo["answer"] for photo in review_of(browser)["photos"]] == ["defective", "good", "unsure"]
    browser.press("z")
    browser.press("Backspace")
    assert asked(browser) == second
    browser.click("#undo")
    assert asked(browser) == first and verdicts_of(browser) == start
    assert browser.evaluate("document.querySelector('#undo').disabled") is True
    assert browser.text("#answer-count") == "No answer yet."
    browser.press("z")
    assert asked(browser) == first and browser.problems == []


def test_key_does_not_answer_for_a_hidden_photo(browser, many):
    opened(browser, many)
    browser.evaluate("document.querySelector('#images').scrollIntoView(); new Promise(r => setTimeout(r, 100))")
    browser.press("d")
    assert browser.text("#answer-count") == "No answer yet."
    browser.press("d")
    assert browser.text("#answer-count") == "So far: 1 photo.", "the first key scrolled back to the question"
    browser.evaluate("document.querySelector('#search').focus()")
    browser.press("g")
    assert (
        browser.text("#answer-count") == "So far: 1 photo."
        and browser.evaluate("document.querySelector('#search').value") == "g"
    )


def test_the_heat_map_of_the_card_has_a_key(browser, many):
    opened(browser, many)
    hidden = "document.querySelector('#look .heat').hidden"
    for key, expected in (("h", False), ("g", False), ("H", True), ("m", False)):
        browser.press(key)
        assert browser.evaluate(hidden) is expected, key


def slide(browser: Browser, value: float) -> None:
    browser.evaluate(
        f"{{ const s = document.querySelector('#slider'); s.value = {value}; s.dispatchEvent(new Event('input')) }}"
    )


def test_the_threshold_can_be_set_by_hand(browser, many):
    opened(browser, many)
    start = verdicts_of(browser)
    slide(browser, 0.4)
    assert sum(verdict == "flagged" for verdict in verdicts_of(browser).values()) == 20
    assert "Answer for a few photos" in browser.text("#effect")
    browser.click("#use-answers")
    assert verdicts_of(browser) == start
    answer_by_name(browser, 6)
    by_answers = verdicts_of(browser)
    slide(browser, 10)
    flagged = {number for number, verdict in verdicts_of(browser).items() if verdict == "flagged"}
    assert 0 < len(flagged) < 6, "answers are applied at every threshold"
    assert re.search(r"about \d+ of \d+ defective parts missed", browser.text("#effect"))
    slide(browser, 0.4)
    assert review_of(browser)["thresholds"] == {"part": {"score": "standard", "threshold": pytest.approx(0.4)}}
    assert browser.text("#use-answers") == "use my answers again"
    browser.click("#use-answers")
    assert verdicts_of(browser) == by_answers and review_of(browser)["thresholds"] == {}


def test_a_share_is_kept(browser, many):
    opened(browser, many)
    browser.evaluate(
        "{const e = document.querySelector('#at-most'); e.value = '0.05'; e.dispatchEvent(new Event('change'))}"
    )
    answer_by_name(browser, 2)
    assert review_of(browser)["max_defective"] == {"part": 0.05}
    flagged = sum(verdict == "flagged" for verdict in verdicts_of(browser).values())
    assert flagged <= 5


def test_the_large_view_takes_the_same_answers_and_notes(browser, many):
    opened(browser, many, "#image-40")
    browser.press("d")
    checked = "document.querySelector('#answer').elements.answer.value"
    assert browser.evaluate(checked) == "defective"
    browser.press("ArrowLeft")
    assert browser.evaluate(checked) == "none"
    browser.evaluate("document.querySelector('#answer').elements.note.focus()")
    for key in "hub":
        browser.press(key)
    browser.press("ArrowLeft")
    browser.press("Escape")
    settled(browser)
    assert browser.text("#answer-count") == "So far: 1 photo and 1 note."
    assert browser.text("#row-40 .verdict") == "flaggedyou: defective"
    photos = {photo["name"]: (photo["answer"], photo["note"]) for photo in review_of(browser)["photos"]}
    assert len(photos) == 2 and photos["bad 40.png"] == ("defective", "") and (None, "hub") in photos.values()
    browser.click("#row-40 .frame")
    browser.click("#answer input[value=none]")
    browser.press("Escape")
    assert browser.text("#answer-count") == "So far: 1 note."
    assert browser.problems == []


def test_answers_survive_a_reload(browser, many, page):
    opened(browser, many)
    answer_by_name(browser, 5)
    slide(browser, 0.3)
    kept, before = review_of(browser), verdicts_of(browser)
    stored = browser.evaluate("Object.entries(localStorage).filter(([key]) => key.startsWith('codegraph'))")
    assert {key.rpartition(" ")[0] for key, _ in stored} == {f"codegraph {STORE_FORMAT}"}
    forms = sorted(sorted(json.loads(value)) for _, value in stored)
    # a changed form of the answers needs another STORE_FORMAT
    assert (STORE_FORMAT, forms) == (2, [["group", "threshold"], ["photo", "share"]])
    browser.open(many)
    assert verdicts_of(browser) == before and review_of(browser) == kept
    browser.open(page)
    assert browser.text("#answer-count") == "No answer yet.", "of other photos"
    browser.evaluate(f"({CHOOSE})('variant', 'imprint')")
    browser.open(page)
    assert [pattern["verdict"] for pattern in review_of(browser)["patterns"]] == ["variant"]


def test_browser_without_storage_works(browser, many):
    opened(browser, many)
    # for example Safari with pages from disk
    source = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })"
    script = browser.send("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"]
    try:
        browser.open(many)
        answer_by_name(browser, 2)
        assert browser.text("#answer-count") == "So far: 2 photos." and browser.problems == []
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_every_category_is_calibrated_by_itself(browser, page):
    opened(browser, page)
    answer_by_name(browser, 1)
    part = browser.text("#progress")
    browser.evaluate("{const e = document.querySelector('#set'); e.value = '1'; e.dispatchEvent(new Event('change'))}")
    assert browser.text("#progress") != part
    browser.press("d")
    slide(browser, 0.5)
    review = review_of(browser)
    assert [photo["category"] for photo in review["photos"]] == ["part", "<b>other</b>"]
    assert list(review["thresholds"]) == ["<b>other</b>"]


def test_the_page_reports_the_end_of_the_review_and_the_chosen_score(browser, tmp_path):
    names = [f"{'bad' if i < 10 else 'good'} {i}.png" for i in range(20)]
    outcome = make_outcome(tmp_path / "data", names, anomalous=0, recurring=0, image_size=(16, 12))
    result = with_scores(outcome.result, np.linspace(0.2, 0.5, 20))
    write_results(tmp_path / "out", Config(), [dataclasses.replace(outcome, result=result)], Clock())
    opened(browser, tmp_path / "out" / "report.html")
    assert browser.evaluate("document.querySelector('#score-choice').hidden") is True
    answer_by_name(browser, 19)
    assert browser.text("#progress").endswith("enough. More would change little.")
    assert "how much a spot differs from the rest of its own photo" in browser.text("#score-choice")
    flagged = {number for number, verdict in verdicts_of(browser).items() if verdict == "flagged"}
    assert flagged == {str(i) for i in range(10)}
    answer_by_name(browser, 1)
    assert browser.text("#ask") == "You have answered for every photo." and browser.problems == []


def test_earlier_review_is_continued(browser, tmp_path):
    outcome = make_outcome(tmp_path / "data", NAMES)
    keys, (group,) = outcome.result.keys, outcome.result.recurring.groups
    mark = Pattern("", "defect", group.signature, outcome.result.recurring.product, 1, 1)
    photos = [
        PhotoReview(keys[9], NAMES[9], "part", "defective", "rim"),
        PhotoReview("ff", "of an earlier batch", "part", "good"),
    ]
    decisions = {"part": ManualThreshold("standard", 0.3), "else": ManualThreshold("standard", 0.4)}
    given = Review(
        outcome.result.feature_identity, (), {photo.key: photo for photo in photos}, decisions, {"part": 0.5}
    )
    answers = Answers.of(given, "part")
    seen = {**answers.photos, keys[9]: dataclasses.replace(photos[0], mark=mark)}
    # a photo with the mark is flagged at any score
    flagged = outcome.result.flagged | np.isin(np.arange(len(NAMES)), (9, 11))
    result = dataclasses.replace(
        outcome.result,
        answers=dataclasses.replace(answers, photos=seen),
        calibration=outcome.result.calibration.with_threshold(0.3, "score"),
        flagged=flagged,
    )
    write_results(tmp_path / "out", Config(), [dataclasses.replace(outcome, result=result)], Clock(), review=given)
    opened(browser, tmp_path / "out" / "report.html")
    assert "Your answers are applied: 1 photo and 1 threshold set by hand." in browser.text(".run")
    assert browser.text("#row-9 .verdict") == "flaggedyou: defective, note"
    assert browser.text("#row-11 .verdict") == "flagged"
    review = review_of(browser)
    (tmp_path / "review.json").write_text(json.dumps(review))
    kept = Review.load(str(tmp_path / "review.json"))
    assert kept.photos["ff"] == photos[1] and kept.photos[keys[9]].note == "rim"
    assert kept.photos[keys[9]].mark.verdict == "defect", "its mark is passed on"
    assert (kept.thresholds, kept.max_defective) == (decisions, {"part": 0.5})
    browser.press("g")
    assert browser.text("#row-11 .verdict") == "flagged", "further answers do not undo it"
    browser.click("#row-9 .frame")
    browser.press("g")
    (photo,) = [photo for photo in review_of(browser)["photos"] if photo["key"] == keys[9]]
    assert "mark" not in photo, "the mark was that of a defective photo"


def test_photos_of_a_small_set_are_unknown_until_a_person_answers(browser, tmp_path):
    outcome = make_outcome(tmp_path / "data", NAMES[:9], anomalous=1, recurring=0)
    write_results(tmp_path / "out", Config(), [outcome], Clock())
    opened(browser, tmp_path / "out" / "report.html")
    assert set(verdicts_of(browser).values()) <= {"flagged", "unknown"}
    browser.press("g")
    assert "passed" in verdicts_of(browser).values(), "a person has answered"


def test_the_report_of_a_run_without_review_has_only_scores(browser, tmp_path):
    outcome = make_outcome(tmp_path / "data", NAMES)
    inspected = dataclasses.replace(outcome, result=dataclasses.replace(outcome.result, keys=()))
    write_results(tmp_path / "out", InspectConfig(), [inspected], Clock())
    opened(browser, tmp_path / "out" / "report.html")
    assert browser.evaluate("document.querySelectorAll('#histogram rect').length") > 1
    assert browser.evaluate("document.querySelectorAll('#slider, #review, #answer, [data-answer]').length") == 0
    browser.press("g")
    assert browser.problems == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 2,000 photos, whose image files are all the same."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    small = make_outcome(root / "data", NAMES[:9], anomalous=0, recurring=0, image_size=(16, 12))
    count, place = 2000, np.arange(2000) % 9
    scores = rng.normal(0.4 + 0.1 * (rng.random(count) < 0.3), 0.04)
    others = {f"score {k}": scores + rng.normal(0, 0.02 * k, count) for k in range(1, 6)}
    result = with_scores(
        small.result,
        scores,
        scores_by_name={"standard": scores, **others},
        kept=np.arange(count),
        keys=tuple(f"{i:04x}" for i in range(count)),
        placement=small.result.placement.select(place),
        samples=tuple(dataclasses.replace(small.samples[k], name=f"{i}.png") for i, k in enumerate(place)),
    )
    outcome = dataclasses.replace(small, result=result)
    config = ReportConfig(("page", "maps"))
    (photo, *_) = make_images(make_records([small], config), root, Scale(0.0, 1.0), workers=1, advance=lambda _: None)
    photos = [dataclasses.replace(photo, record=record) for record in make_records([outcome], config)]
    write_page(root / "report.html", [outcome], photos, [], {}, MANIFEST)
    return root / "report.html"


MANIFEST = {
    "config": {"data": {"root": "parts"}, "report": {"mm_per_pixel": 0.05}, "metrics": {"resolution": "score"}},
    "date": "",
    "command": "codegraph detect 'a b' --review=~/x --size 448",
    "photos_digest": "",
}


KEY = """async (key) => {
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  await new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done))));
}"""
TABLE = "new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done)), 150))"


def test_a_key_is_answered_at_once_in_a_large_set(browser, large):
    opened(browser, large)
    times = [(browser.busy(f"({KEY})({json.dumps(key)})"), browser.busy(TABLE)) for key in "gdgdggdz"]
    answer, table = np.median(times, axis=0)
    assert answer < 0.1 and table < 0.1
    assert browser.text("#answer-count") == "So far: 6 photos."
    assert browser.text("#command") == "codegraph detect 'a b' --size 448 --review=~/Downloads"
