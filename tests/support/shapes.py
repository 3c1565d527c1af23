"""Checks annotated array shapes and types in every call while tests run; tests/conftest.py installs it.

mypy checks the other annotations; tests also break them on purpose.
"""

import functools
import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from jaxtyping import AbstractArray

SEVERAL = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a check of each argument and result that its annotations describe as an array, or None."""
    signature = inspect.signature(function)
    several = {name for name, parameter in signature.parameters.items() if parameter.kind in SEVERAL}
    hints = function.__annotations__.items()
    arrays = {name: parts for name, hint in hints if name not in several and (parts := _array_types(hint))}
    if not arrays:
        return function

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        values = signature.bind(*args, **kwargs).arguments
        result = function(*args, **kwargs)
        for name, value in {**values, "return": result}.items():
            if name in arrays and not any(isinstance(value, part) for part in arrays[name]):
                raise TypeError(f"{name}: {value!r:.200} is not {arrays[name]}")
        return result

    return checked


def _array_types(hint: Any) -> tuple[Any, ...]:
    """The types of an annotation that describes one array, or an array or None; empty for others."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    known = all(part is NoneType or (inspect.isclass(part) and issubclass(part, AbstractArray)) for part in parts)
    return parts if known else ()
