"""The page of a line in a real browser: new parts, keyboard, dark mode, token."""

import json
import re
from dataclasses import replace

import pytest

from codegraph_jax.line.app import create_app
from codegraph_jax.line.connections import server_of
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.line.part import Alarm, ReceivedPhoto
from codegraph_jax.line.settings import WebConfig
from tests.line.conftest import marked_copy
from tests.support.accessibility import barriers_by_colours
from tests.support.threads import serving

TOKEN = "a token that is long enough"


def served(inspector, token: str = ""):
    """Serves the line of an inspector; yields its address."""
    return serving(server_of(create_app(inspector, WebConfig(), token), grace_seconds=5))


@pytest.fixture
def inspected(inspector, photos, tmp_path):
    """An inspector after five parts, of which one is flagged and one could not be read."""
    for path in photos[:3]:
        inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
    marked = marked_copy(photos[3], tmp_path / "<b>marked.png")
    inspector.inspect(ReceivedPhoto("m", marked.name, str(marked)))
    inspector.record_failure(ReceivedPhoto("f", "cut.png", str(tmp_path / "cut.png")), "image file is truncated")
    return inspector


def test_the_page_shows_past_and_new_parts(browser, inspected, photos):
    with served(inspected) as address:
        browser.view(1200, 900)
        browser.visit(address)
        browser.wait_until("document.querySelectorAll('#parts li').length === 5")
        assert [browser.text(f"#{name}") for name in ("inspected", "flagged", "not_inspected")] == ["4", "1", "1"]
        assert browser.evaluate("document.querySelectorAll('#chart circle').length") == 4
        assert browser.evaluate("document.querySelectorAll('#chart circle.flagged').length") == 1
        assert "<b>marked.png" in browser.text("#parts li:nth-child(2)")
        assert "truncated" in browser.text("#parts li:nth-child(1)")
        browser.wait_until("[...document.querySelectorAll('#parts img')].every(i => i.complete && i.naturalWidth)")
        inspected.inspect(ReceivedPhoto("new", "new.png", str(photos[5])))
        browser.wait_until("document.querySelectorAll('#parts li').length === 6")
        assert "new.png" in browser.text("#parts li:nth-child(1)")
        assert browser.problems == []
        assert barriers_by_colours(browser) == []
        browser.click("#parts li:nth-child(1) button")
        assert barriers_by_colours(browser) == []


def test_the_page_works_by_keyboard_in_the_dark_on_a_phone(browser, inspected):
    with served(inspected) as address:
        browser.view(400, 800, dark=True, phone=True)
        browser.visit(address)
        browser.wait_until("document.querySelectorAll('#parts li').length === 5")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 22)"
        browser.evaluate("document.querySelector('#parts button').focus()")
        browser.press("ArrowRight")
        browser.press("Enter")
        browser.wait_until("document.querySelector('#large').open")
        assert "marked" in browser.text("#large-title") and "flagged" in browser.text("#facts")
        browser.press("ArrowRight")
        browser.wait_until("document.querySelector('#large-title').textContent.startsWith('3:')")
        browser.press("Escape")
        browser.wait_until("!document.querySelector('#large').open")
        browser.wait_until("document.activeElement.dataset.part === '3'")
        assert browser.problems == []


def test_the_page_shows_alarms_and_a_lost_connection(browser, inspected):
    part = inspected.ledger.by_number(1)
    alarm = Alarm("drift", "brightness", "The brightness has fallen.")
    with served(inspected) as address:
        browser.view(1200, 900)
        browser.visit(address)
        browser.wait_until("!!document.querySelector('#alarms li.none')")
        inspected.ledger.record(replace(part, key="other", alarms=(alarm,)))
        browser.wait_until("document.querySelector('#alarms').textContent.includes('has fallen')")
    browser.wait_until("document.querySelector('#state').className === 'lost'")


def test_the_page_and_its_alarms_are_translated_to_german(browser, inspected):
    alarms = (
        Alarm("drift", "brightness", "Photos have been darker since part 3."),
        Alarm("drift", "own", "Own words."),
    )
    inspected.ledger.record(replace(inspected.ledger.by_number(1), key="other", alarms=alarms))
    with served(inspected) as address:
        browser.view(390, 844, phone=True)
        browser.visit(f"{address}?language=de")
        browser.wait_until("document.querySelectorAll('#parts li').length === 6")
        assert browser.evaluate("[document.title, document.documentElement.lang]") == ["Linienprüfung", "de"]
        said = browser.text("#alarms")
        assert "Die Fotos sind dunkler seit Teil 3." in said and "Own words." in said
        assert "auffällig · " in browser.text("#parts") and "Gestrichelt" in browser.text("#legend")
        assert re.search(r"Werte \d,\d{3} bis \d,\d{3}", browser.text("#legend"))
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        change = "e => { e.value = 'en'; e.dispatchEvent(new Event('change', { bubbles: true })); }"
        browser.evaluate(f"({change})(document.querySelector('#language'))")
        browser.wait_until("document.querySelector('#alarms').textContent.includes('have been darker')")
        assert browser.text("h1") == "Line inspection" and browser.problems == []


def test_the_page_lists_undelivered_results_and_sends_them_again(browser, inspected):
    outbox, asked = inspected.ledger.outbox, []
    outbox.send_to(["https://mes.example/<b>x?key=secret"])
    inspected.record_failure(ReceivedPhoto("f2", "cut.png", ""), "image file is truncated")
    shown = "document.querySelector('#undelivered').hidden === false"
    with served(inspected) as address:
        browser.view(1200, 900)
        browser.visit(address)
        browser.wait_until("document.querySelectorAll('#parts li').length === 6")
        assert not browser.evaluate(shown), "a result on its way is not a problem"
        outbox.record_failure(outbox.next(outbox.addresses[0]), "status 404: no such line", 1, True)
        browser.wait_until(shown)
        assert browser.text("#undelivered li") == (
            "https://mes.example/<b>x: 1 set aside. Last error: status 404: no such line. "
            "Parts whose results are set aside: 6"
        )
        outbox.wake = lambda skip_pause: asked.append(skip_pause)
        browser.click("[data-method=POST]")
        browser.wait_until(f"!({shown})")
        assert asked == [True] and outbox.undelivered()[0].waiting == 1
        outbox.record_failure(outbox.next(outbox.addresses[0]), "status 404", 1, True)
        browser.wait_until("document.querySelector('[data-method=DELETE]').hidden === false")
        browser.click("[data-method=DELETE]")
        assert browser.text("[data-method=DELETE]").startswith("Click again") and browser.evaluate(shown)
        browser.click("[data-method=DELETE]")
        browser.wait_until(f"!({shown})")
        assert browser.problems == []


def test_the_page_asks_for_the_token_and_keeps_it(browser, inspected):
    with served(inspected, TOKEN) as address:
        browser.view(1200, 900)
        browser.visit(address)
        browser.wait_until("document.querySelector('#ask')?.hidden === false")
        assert browser.evaluate("document.activeElement.id") == "token"
        for given in ("wrong", TOKEN):
            browser.evaluate(f"document.querySelector('#token').value = {json.dumps(given)}")
            browser.click("#ask button")
            if given == "wrong":
                browser.wait_until("document.querySelector('#refused').textContent.includes('wrong')")
        browser.wait_until("document.querySelectorAll('#parts li').length === 5")
        browser.wait_until("[...document.querySelectorAll('#parts img')].every(i => i.complete && i.naturalWidth)")
        assert browser.evaluate("document.querySelector('#ask').hidden")


def test_a_ledger_is_read_while_a_line_writes_it(inspected):
    other = Ledger(inspected.ledger.path)
    assert other.counts() == inspected.ledger.counts()
    other.close()
