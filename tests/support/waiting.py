"""Waits for a condition, with a deadline."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float = 20, description: str = "the condition") -> None:
    """Returns as soon as the condition is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{description} is not true after {seconds:g} s"
        time.sleep(0.01)
