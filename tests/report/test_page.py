"""The page of a report: its file, and its tables, viewer and groups in the browser."""

import base64
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.consistency.review import Review
from codegraph_jax.report.photo_images import MAX_IMAGE_BYTES, image_side
from codegraph_jax.report.texts import script_json
from tests.report.opened_page import CHOOSE, column, opened
from tests.report.outcomes import NAMES, colour
from tests.support.accessibility import barriers_by_colours


class Elements(HTMLParser):
    """Start tags of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_no_file_is_fetched(page):
    text = page.read_text(encoding="utf-8")
    for tag, attributes in Elements(text).found:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not re.match(r"[a-z]+:|//", value), (tag, value)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "url(" not in text and "@import" not in text


def test_names_never_become_markup(page):
    tags = [tag for tag, _ in Elements(page.read_text(encoding="utf-8")).found]
    assert "b" in tags and tags.count("script") == 2
    assert not [a for tag, a in Elements(page.read_text(encoding="utf-8")).found if tag == "img" and "onerror" in a]


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_embedded_json_is_the_value_and_never_markup(value):
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&") and text.isascii()


def test_pictures_stay_within_the_budget():
    assert image_side(1) == image_side(90) == 1024
    for images in (110, 300, 500, 2000, 4000):
        assert images * 0.3 * image_side(images) ** 2 <= MAX_IMAGE_BYTES


def test_the_page_opens_without_problems(browser, page):
    opened(browser, page)
    assert browser.problems == []
    assert browser.evaluate("document.title") == "8 of 32 photos flagged"
    assert browser.evaluate("document.querySelectorAll('#table tbody tr').length") == 32


def test_the_page_has_no_barriers(browser, page):
    opened(browser, page)
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert barriers_by_colours(browser) == []
    browser.click("#gallery")
    browser.click("#row-0 .frame")
    assert barriers_by_colours(browser) == []


def test_the_table_sorts_by_every_column_and_back(browser, page):
    opened(browser, page)
    rarity = column(browser, "rarity")
    chances = [int(text.split()[2].replace(",", "")) for text in rarity if text != "most good parts"]
    assert chances == sorted(chances, reverse=True) and chances[0] > 1000, "the most unusual first"
    assert rarity[-1] == "most good parts"
    browser.click("th[data-sort=score] button")
    assert column(browser, "score") == sorted(column(browser, "score"), reverse=True)
    assert browser.evaluate("document.querySelector('th[data-sort=score]').ariaSort") == "descending"
    browser.click("th[data-sort=score] button")
    assert column(browser, "score") == sorted(column(browser, "score"))
    browser.click("th[data-sort=name] button")
    names = [name for name in column(browser, "name") if name.startswith("kind_0/")]
    assert names[:4] == ["kind_0/0.png"] * 2 + ["kind_0/2.png"] * 2 and names[-1] == "kind_0/10.png"
    browser.click("th[data-sort=group] button")
    groups = browser.evaluate("[...document.querySelectorAll('td.recurring')].map(c => c.textContent)")
    assert groups[:4] == ["defect 1"] * 3 + [""]


def test_filters_hide_the_other_photos(browser, page):
    opened(browser, page)

    def choose(selector: str, value: str) -> None:
        browser.evaluate(
            f"{{const e = document.querySelector('{selector}'); e.value = {json.dumps(value)};"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'))}"
        )

    choose("#show", "flagged")
    assert len(column(browser, "name")) == 8
    choose("#category", "1")
    assert sorted(column(browser, "name")) == [f"kind_{i % 2}/{i}.png" for i in (0, 2, 1, 3)]
    choose("#show", "passed")
    passed = set(column(browser, "name"))
    choose("#show", "check")
    looked_at = set(column(browser, "name"))
    assert len(looked_at) == 5 and len(passed) == 3 and not passed & looked_at
    choose("#show", "all")
    choose("#search", "KIND 11")
    assert column(browser, "name") == ["kind_1/11.png"]
    assert browser.text("#count") == "1 of 32 photos"
    browser.click("#reset")
    assert len(column(browser, "name")) == 32
    browser.click("button[data-group]")
    assert sorted(column(browser, "name")) == ["kind_0/0.png", "kind_0/2.png", "kind_1/1.png"]
    browser.click("#reset")
    choose("#show", "missed")
    assert column(browser, "name") == []


SHOWN_COLOUR = """(async () => {
  const photo = document.querySelector('#viewer .photo');
  await photo.decode();
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d');
  context.drawImage(photo, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
})()"""


def test_the_viewer_opens_the_right_image_and_steps_through_the_table(browser, page):
    opened(browser, page)
    for name in ("kind_0/4.png", "kind_1/7.png"):
        number = int(name.split("/")[1].split(".")[0])
        browser.click(f"#row-{number} .frame")
        assert browser.text("#viewer-name") == name
        np.testing.assert_allclose(browser.evaluate(SHOWN_COLOUR), colour(number), atol=6)
        browser.press("Escape")
        assert browser.evaluate("document.querySelector('#viewer').open") is False
    order = browser.evaluate("[...document.querySelectorAll('#table tbody tr')].map(r => r.dataset.number)")
    browser.click(f"#row-{order[0]} .frame")
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        browser.press(key)
        seen.append(browser.evaluate("location.hash.slice(7)"))
    assert seen == [order[1], order[2], order[1], order[0], order[0]]
    np.testing.assert_allclose(browser.evaluate(SHOWN_COLOUR), colour(int(order[0]) % len(NAMES)), atol=6)
    assert browser.problems == []


def test_map_and_boxes_can_be_switched_by_keys(browser, page):
    opened(browser, page, "#image-1")
    assert browser.evaluate("document.querySelectorAll('#viewer rect.found').length") == 1
    assert browser.evaluate("document.querySelectorAll('#viewer rect.pattern').length") == 1
    box = browser.evaluate("(({x, y, width, height}) => [x, y, width, height].map(v => v.baseVal.value))"
                           "(document.querySelector('#viewer rect.pattern'))")  # fmt: skip
    np.testing.assert_allclose(box, [0.625, 0.25, 0.25, 0.25], atol=1e-4)
    browser.press("b")
    assert browser.evaluate("document.querySelectorAll('#viewer rect').length") == 0
    visible = "getComputedStyle(document.querySelector('#viewer .heat')).display != 'none'"
    assert browser.evaluate(visible) is True
    browser.press("m")
    assert browser.evaluate(visible) is False


def test_the_opened_photo_keeps_its_aspect_and_fits(browser, page):
    opened(browser, page, f"#image-{len(NAMES)}")
    for width, height in ((1200, 900), (390, 800), (800, 300)):
        browser.view(width, height)
        box = browser.evaluate("new Promise(r => setTimeout(() => {const b = document.querySelector('#viewer .canvas')"
                               ".getBoundingClientRect(); r([b.width, b.height])}, 200))")  # fmt: skip
        assert box[1] / box[0] == pytest.approx(90 / 40, rel=0.03)
        assert 50 < box[0] <= width and box[1] <= height


def test_links_lead_to_files_that_exist(browser, page):
    opened(browser, page)
    for number in range(len(NAMES)):
        browser.evaluate(f"location.hash = '#image-{number}'; new Promise(r => setTimeout(r, 30))")
        loaded = browser.evaluate(
            "Promise.all([...document.querySelectorAll('#facts a')].map(a => {const i = new Image(); i.src = a.href;"
            "return i.decode().then(() => i.naturalWidth)}))"
        )
        assert loaded[0] == 80 and len(loaded) == (2 if number < 4 else 1)
        facts = browser.text("#facts")
        assert bool(re.search(r"largest region\d+ × \d+ px", facts)) == (number < 4)
    assert browser.problems == []


def test_hostile_names_run_nothing(browser, page):
    opened(browser, page)
    assert browser.evaluate("document.querySelectorAll('#table img[onerror], #table script').length") == 0
    shown = column(browser, "name")
    assert "<img src=x onerror=alert(1)>.png" in shown and "{{ 7 * 7 }}{% raw %}.png" in shown
    assert "two␊lines.png" in shown and "bytes\ufffd.png" in shown
    blocked = browser.evaluate(
        "(() => {const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s); return window.hacked === undefined})()"
    )
    assert blocked is True, "the content policy blocks other scripts"


def test_a_group_has_its_evidence_and_its_verdict(browser, page):
    opened(browser, page)
    heading, reasons = (
        browser.evaluate(f"[...document.querySelectorAll('.group {element}')].map(e => e.textContent.trim())")
        for element in ("h4", ".reasons li")
    )
    assert heading == ["defect 1 defect"]
    assert len(reasons) == 4 and all(reason.startswith("For a defect:") for reason in reasons)
    assert "stand out (1 in 100 good parts score this high)" in reasons[0] and "1.5 times as much" in reasons[1]
    facts = browser.text("article.group .facts")
    assert facts.startswith("3 of 20 photos. Unlikely to be a coincidence (1 in 1,000).")
    tiles = browser.evaluate("[...document.querySelectorAll('.tiles div')].map(e => e.textContent.trim())")
    assert any(tile.startswith("recurring defect") and tile.endswith("1") for tile in tiles)
    assert browser.evaluate("document.querySelector('form.verdicts[data-pattern]').elements.verdict.value") == "defect"
    assert browser.evaluate("document.querySelector('#save-review').disabled") is True, "no answers yet"


@pytest.mark.parametrize("name", ["imprint", "<img src=x onerror=alert(1)>", "\"'</script>\u202e{{ 7 * 7 }}"])
def test_verdicts_are_saved_as_a_file_and_as_text(browser, page, tmp_path, name):
    opened(browser, page)
    browser.evaluate(f"({CHOOSE})('variant', {json.dumps(name)})")
    assert browser.text("#answer-count") == "So far: 1 group."
    assert browser.text("article.group h4 bdi") == name
    browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.click("#save-review")
    saved = tmp_path / "review.json"
    for _ in range(100):
        if saved.is_file():
            break
        time.sleep(0.05)
    (pattern,) = Review.load(str(saved)).patterns
    assert (pattern.name, pattern.verdict, pattern.member_count, pattern.image_count) == (
        name,
        "variant",
        3,
        len(NAMES),
    )
    browser.click("#copy-review")
    browser.evaluate("new Promise(r => setTimeout(r, 50))")
    assert browser.evaluate("document.querySelector('#review-text').value") == saved.read_text(encoding="utf-8")
    assert "review.json" in browser.text("#review-done")
    assert browser.problems == []


def test_typed_keys_stay_in_the_name(browser, page):
    opened(browser, page)
    browser.evaluate("document.querySelector('form.verdicts[data-pattern]').elements.name.focus()")
    browser.press("/")
    assert browser.evaluate("document.activeElement.name") == "name", "the search box does not get the key"


def test_the_page_works_moved_away_from_its_folder(browser, page, tmp_path):
    lone = tmp_path / "mailed.html"
    lone.write_bytes(page.read_bytes())
    opened(browser, lone, "#image-0")
    np.testing.assert_allclose(browser.evaluate(SHOWN_COLOUR), colour(0), atol=6)
    assert browser.problems == []


def test_nothing_is_wider_than_a_phone(browser, page):
    browser.view(360, 740, phone=True)
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_without_scripts_has_every_photo(page):
    text = page.read_text(encoding="utf-8")
    photos = re.findall(r'class="photo"[^>]*src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(photos) == 32 and all(base64.b64decode(photo)[:2] == b"\xff\xd8" for photo in photos)
