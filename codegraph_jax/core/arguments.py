"""Arguments of public methods that have got other names."""

import warnings
from typing import TypeVar

T = TypeVar("T")


def renamed(old: str, value: T | None, new: str, given: T) -> T:
    """The value of an argument: by its former name, with a warning to the caller of the method, or by its own.

    Args:
        old, value: former name, and what was given by it; None: nothing.
        new, given: its name, and what was given by it.
    """
    if value is None:
        return given
    warnings.warn(f"the argument {old} is now called {new}", DeprecationWarning, stacklevel=3)
    return value
