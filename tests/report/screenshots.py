"""Takes the screenshots of a report that the documentation shows.

python -m tests.report.screenshots runs/demo docs/images
"""

import io
import sys
from pathlib import Path

from PIL import Image

from tests.support.browser import Browser, find_browser

SETTLED = "new Promise(resolve => setTimeout(resolve, 800))"
"""The browser decodes photos when they come into view."""


def take(browser: Browser, file: Path) -> None:
    """Writes a screenshot as JPEG without colour subsampling, which keeps text sharp."""
    browser.evaluate(SETTLED)
    screenshot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    screenshot.save(file, quality=88, subsampling=0, optimize=True)


def main(workdir: Path, target: Path) -> None:
    """Desktop in light and dark, the large view, and a phone."""
    program = find_browser()
    if program is None:
        sys.exit("error: no Chromium or Chrome is installed")
    target.mkdir(parents=True, exist_ok=True)
    browser, report = Browser(program), workdir / "report.html"
    try:
        browser.view(1280, 1500)
        browser.open(report)
        take(browser, target / "report.jpg")
        browser.view(1280, 900)
        browser.evaluate("document.querySelector('#table .frame').click()")
        take(browser, target / "report-image.jpg")
        browser.view(1280, 900, dark=True)
        browser.open(report)
        browser.evaluate(
            "document.querySelector('#gallery').click(); document.querySelector('#images').scrollIntoView()"
        )
        take(browser, target / "report-gallery-dark.jpg")
        browser.view(390, 844, phone=True)
        browser.open(report)
        browser.evaluate("document.querySelector('#images').scrollIntoView()")
        take(browser, target / "report-phone.jpg")
    finally:
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
