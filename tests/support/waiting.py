"""Waits for a condition, with a deadline."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], seconds: float = 20, description: str = "the condition", pause: float = 0.01
) -> None:
    """Returns as soon as the condition, which is tried again after each pause, is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not true after {seconds:g} s: {description}"
        time.sleep(pause)
