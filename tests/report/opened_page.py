"""A report in the browser: its table, its question, and its review.json."""

import json
from pathlib import Path

from tests.support.browser import Browser

CHOOSE = """(verdict, name) => {
  const form = document.querySelector('form.verdicts[data-pattern]');
  form.querySelector(`input[value=${verdict}]`).click();
  form.elements.name.value = name;
  form.elements.name.dispatchEvent(new Event('input', { bubbles: true }));
}"""
"""Chooses a verdict and a name for the first group."""


def opened(browser: Browser, page: Path, fragment: str = "") -> Browser:
    """Opens the page without answers in the browser's storage."""
    browser.view(1200, 900)
    browser.open(page)
    browser.evaluate("localStorage.clear()")
    browser.open(page, fragment)
    return browser


def column(browser: Browser, kind: str) -> list[str]:
    return browser.evaluate(
        f"[...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden).map(r => "
        f"r.querySelector('.{kind}').textContent)"
    )


def review_of(browser: Browser) -> dict:
    browser.click("#copy-review")
    browser.evaluate("new Promise(r => setTimeout(r, 50))")
    return json.loads(browser.evaluate("document.querySelector('#review-text').value"))


def asked(browser: Browser) -> str:
    return browser.text("#look-name")


def settled(browser: Browser) -> None:
    """Waits until the table is updated."""
    browser.evaluate("new Promise(r => setTimeout(r, 30))")


def verdicts_of(browser: Browser) -> dict[str, str]:
    settled(browser)
    said = "r => [r.dataset.number, r.querySelector('.badge').textContent]"
    return dict(browser.evaluate(f"[...document.querySelectorAll('#table tbody tr')].map({said})"))
