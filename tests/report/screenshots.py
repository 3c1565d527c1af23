"""Takes the screenshots of a report that the documentation shows.

python -m tests.report.screenshots runs/demo docs/images
"""

import sys
from pathlib import Path

from tests.support.browser import Browser, find_browser, save_screenshot


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
        save_screenshot(browser, target / "report.jpg")
        browser.view(1280, 900)
        browser.click("#table .frame")
        save_screenshot(browser, target / "report-image.jpg")
        browser.view(1280, 900, dark=True)
        browser.open(report)
        browser.evaluate(
            "document.querySelector('#gallery').click(); document.querySelector('#images').scrollIntoView()"
        )
        save_screenshot(browser, target / "report-gallery-dark.jpg")
        browser.view(390, 844, phone=True)
        browser.open(report)
        browser.evaluate("document.querySelector('#images').scrollIntoView()")
        save_screenshot(browser, target / "report-phone.jpg")
    finally:
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
