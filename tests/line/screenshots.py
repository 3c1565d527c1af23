"""Takes the screenshot of a line's page that the documentation shows.

python -m tests.line.screenshots http://127.0.0.1:8000 docs/images
"""

import sys
from pathlib import Path

from tests.support.browser import Browser, find_browser, save_screenshot


def main(address: str, target: Path) -> None:
    """The page on a desktop after all photos are loaded."""
    program = find_browser()
    if program is None:
        sys.exit("error: no Chromium or Chrome is installed")
    browser = Browser(program)
    try:
        browser.view(1280, 1120)
        browser.visit(address)
        browser.evaluate("new Promise(resolve => setTimeout(resolve, 4000))")
        save_screenshot(browser, target / "line.jpg")
    finally:
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
