"""Dataclasses as JSON, and back with every value checked against its annotated type."""

import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Self

import numpy as np

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""Errors that JSON of another form raises in `from_json`; deep nesting raises RecursionError before, in the parser."""


class JsonFields:
    """Base of dataclasses that are saved as JSON.

    Fields are plain values, tuples, dicts, or classes with `as_json` and `from_json`, and any of these or None. Fields
    with `not_in_json()` are not saved; they are passed to `from_json` by keyword. Fields with `optional_in_json()` may
    be missing, and then have their default.
    """

    def as_json(self) -> dict[str, Any]:
        """Values for JSON; `from_json` reads them."""
        return {name: plain(getattr(self, name)) for name in _hints(type(self))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], **others: Any) -> Self:
        """Reads the values of `as_json`; malformed ones raise KeyError, TypeError or ValueError."""
        if not isinstance(values, Mapping):
            raise TypeError(f"expected an object with {', '.join(_hints(cls))}, got {_short(values)}")
        hints = _hints(cls)
        missing, unknown = sorted(hints.keys() - values.keys() - _optional(cls)), sorted(values.keys() - hints.keys())
        if missing or unknown:
            odd = f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(map(str, unknown))}"
            raise KeyError(f"{odd}; known: {', '.join(hints)}")
        known = {name: _field(name, hint, values[name]) for name, hint in hints.items() if name in values}
        return cls(**known, **others)

    def require(self, *names: str) -> None:
        """Checks these fields of a new object against their annotations.

        Raises:
            ValueError: a field has another type, or is none of the choices; names the field.
        """
        for name in names:
            _field(name, _hints(type(self))[name], getattr(self, name))


def not_in_json() -> dict[str, Any]:
    """Metadata of a field that `JsonFields` leaves out."""
    return {"not_in_json": True}


def optional_in_json() -> dict[str, Any]:
    """Metadata of a field that may be missing in the JSON of `JsonFields`."""
    return {"optional_in_json": True}


def plain(value: Any) -> Any:
    """The value with tuples as lists, NumPy's numbers as Python's, and objects by their `as_json`."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, tuple | list):
        return [plain(element) for element in value]
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def flattened(tree: Any, path: str = "") -> dict[str, Any]:
    """The values of nested dicts by their path, such as `data.root`."""
    if not isinstance(tree, Mapping):
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flattened(value, f"{path}.{key}" if path else key)
    return flat


def _annotations(cls: Any) -> dict[str, Any]:
    """The annotations of the saved fields."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if "not_in_json" not in field.metadata}


def _optional(cls: Any) -> set[str]:
    """The fields that may be missing."""
    return {field.name for field in fields(cls) if "optional_in_json" in field.metadata}


_hints: Callable[[Any], dict[str, Any]] = cache(_annotations)


def _field(name: str, hint: Any, value: Any) -> Any:
    """The value of a field as its annotated type; errors name the field."""
    try:
        return typed(hint, value)
    except MALFORMED as error:
        raise ValueError(f"{name}: {error}") from None


def _short(value: Any) -> str:
    return repr(value)[:80]


def typed(hint: Any, value: Any) -> Any:
    """The value as the annotated type; an int becomes a float, and a list a tuple. The only unions are with None."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return None if value is None else typed(next(arg for arg in args if arg is not NoneType), value)
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"{_short(value)} is none of {', '.join(map(str, args))}")
        return value
    if origin in (tuple, dict, list) and isinstance(value, list | tuple if origin is tuple else origin):
        return _elements(origin, args, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin or hint) or (hint is not bool and isinstance(value, bool)):
        raise TypeError(f"expected {getattr(origin or hint, '__name__', hint)}, got {_short(value)}")
    return value


def _elements(origin: type, args: tuple[Any, ...], value: Any) -> Any:
    """The elements of a tuple, a dict or a list as their annotated types."""
    if origin is dict:
        return {str(key): typed(args[1], element) for key, element in value.items()}
    each = [args[0]] * len(value) if origin is list or args[-1] is Ellipsis else args
    if len(each) != len(value):
        raise ValueError(f"expected {len(each)} values, got {len(value)}")
    return origin(typed(one, element) for one, element in zip(each, value))
