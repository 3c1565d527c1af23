"""Takes the screenshots of the app that the documentation shows, from a running app with some runs.

python -m tests.app.screenshots ADDRESS FOLDER docs/images
"""

import json
import sys
from pathlib import Path

from tests.report.browser import Browser, find_browser
from tests.report.screenshots import take
from tests.support.waiting import wait_until


def main(address: str, folder: str, target: Path) -> None:
    """The list of runs, and a folder with its estimate."""
    program = find_browser()
    if program is None:
        sys.exit("error: no Chromium or Chrome is installed")
    browser = Browser(program)

    def until(condition: str) -> None:
        wait_until(lambda: browser.evaluate(f"Boolean({condition})"), 120, condition)

    try:
        browser.view(1100, 340)
        browser.visit(address)
        until("document.querySelector('.runs img')?.complete")
        take(browser, target / "app-runs.jpg")
        browser.view(1100, 720)
        browser.evaluate("location.hash = '#/new'")
        until("document.querySelector('.path input')")
        browser.evaluate(f"document.querySelector('.path input').value = {json.dumps(folder)}")
        browser.evaluate("document.querySelector('.path button:last-child').click()")
        until("/Network/.test(document.querySelector('#estimate')?.textContent)")
        take(browser, target / "app-new.jpg")
    finally:
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
