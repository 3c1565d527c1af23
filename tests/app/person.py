"""The app's server in a thread, and a person's actions on its pages in a browser."""

import json
from contextlib import contextmanager

from codegraph_jax.app.server import create_app
from codegraph_jax.line.connections import server_of
from tests.app.conftest import KEY
from tests.support.browser import Browser
from tests.support.threads import serving
from tests.support.waiting import wait_until


@contextmanager
def served(results, key=KEY):
    """Serves a directory of results; gives the application and its address."""
    app = create_app(results, key)
    with serving(server_of(app, grace_seconds=5)) as address:
        yield app, f"{address}/"


class Person:
    """A person who uses the page."""

    def __init__(self, browser: Browser, address: str):
        self.browser, self.address = browser, address

    def wait_until(self, condition, seconds=60):
        wait_until(lambda: self.holds(condition), seconds, condition)

    def holds(self, condition):
        """True if a condition holds; False while a page is loaded."""
        try:
            return self.browser.evaluate(f"Boolean({condition})")
        except RuntimeError:
            return False

    def enter(self, key=KEY):
        self.browser.visit(f"{self.address}?key={key}")
        self.wait_until("document.querySelector('main h2')")

    def go(self, place, found):
        """Opens a page of the app and waits until an element is there."""
        self.browser.evaluate(f"location.hash = {json.dumps(place)}")
        self.wait_until(f"document.querySelector({json.dumps(found)})")

    def click_text(self, text):
        found = f"[...document.querySelectorAll('button, a')].find((one) => one.textContent === {json.dumps(text)})"
        self.wait_until(found)
        self.browser.evaluate(f"{found}.click()")

    def choose(self, folder):
        self.wait_until("document.querySelector('[name=path]')")
        self.browser.evaluate(f"document.querySelector('[name=path]').value = {json.dumps(str(folder))}")
        self.click_text("Open")
        self.wait_until("document.querySelector('#contents h3')")

    def set(self, selector, value):
        self.browser.evaluate(
            f"(input => {{ input.value = {json.dumps(value)}; input.dispatchEvent(new Event('change')); }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def drag(self, selector, *corners):
        """Drags the mouse from the first corner to the last; corners are shares of the sides of an element."""
        self.browser.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{ block: 'center' }})")
        box = self.browser.evaluate(
            f"(({{left, top, width, height}}) => [left, top, width, height])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in corners]
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]]):
            self.browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
