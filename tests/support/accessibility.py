"""Accessibility barriers of a page, found by axe-core: keyboard, screen reader, contrast."""

import hashlib
from pathlib import Path

import pytest

from tests.support.browser import Browser

AXE = Path(__file__).parent / "axe" / "axe.min.js"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
FIND = """
Promise.all(document.getAnimations().map(({ finished }) => finished))
  .then(() => axe.run(document, { resultTypes: ["violations"] })).then(({ violations }) => violations
  .filter(({ impact }) => ["serious", "critical"].includes(impact))
  .map(({ id, help, nodes }) => [id, help, ...nodes.slice(0, 5).map(({ html, any, all }) =>
    `${html.slice(0, 200)} ${[...any, ...all].map(({ message }) => message).join(", ")}`)].join("; ")))
"""


def barriers(browser: Browser) -> list[str]:
    """The serious and critical violations in the page that is open."""
    if not AXE.is_file():
        pytest.skip("axe-core is in a clone only")
    script = AXE.read_bytes()
    assert hashlib.sha256(script).hexdigest() == SHA256
    browser.evaluate(f"window.axe === undefined && {{}}; {script.decode()}; true")
    return browser.evaluate(FIND)


def barriers_by_colours(browser: Browser, width: int = 1200, height: int = 900) -> list[str]:
    """`barriers` in light and in dark colours."""
    found = []
    for dark in (False, True):
        browser.view(width, height, dark=dark)
        found += [f"{'dark' if dark else 'light'}: {line}" for line in barriers(browser)]
    browser.view(width, height)
    return found
