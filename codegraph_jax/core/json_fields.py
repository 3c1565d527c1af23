"""Dataclasses as JSON, and back with every value checked against its annotated type."""

import typing
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Self


class JsonFields:
    """A dataclass of JSON values, tuples, mappings, and other classes with `as_json` and `from_json`.

    Fields with the metadata `not_in_json()` are left out; `from_json` takes them by name.
    """

    def as_json(self) -> dict[str, Any]:
        """Values for JSON; `from_json` reads them."""
        return {field.name: _plain(getattr(self, field.name)) for field in _fields(type(self))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], **others: Any) -> Self:
        """Reads the values of `as_json`; malformed ones raise KeyError, TypeError or ValueError."""
        hints = typing.get_type_hints(cls)
        known = {field.name for field in _fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise KeyError(f"unknown: {', '.join(map(str, unknown))}")
        return cls(**{name: _typed(hints[name], value) for name, value in values.items()}, **others)


def not_in_json() -> dict[str, Any]:
    """Metadata of a field that `JsonFields` leaves out."""
    return {"not_in_json": True}


def _fields(cls: Any) -> list[Any]:
    return [field for field in fields(cls) if "not_in_json" not in field.metadata]


def _plain(value: Any) -> Any:
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, tuple | list):
        return [_plain(element) for element in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _typed(hint: Any, value: Any) -> Any:
    """The value as the annotated type; an int becomes a float, and a list a tuple."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return None if value is None else _typed(next(arg for arg in args if arg is not NoneType), value)
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"{value!r} is none of {', '.join(map(str, args))}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        each = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(_typed(one, element) for one, element in zip(each, value, strict=True))
    if origin in (dict, list) and isinstance(value, origin):
        if origin is list:
            return [_typed(args[0], element) for element in value]
        return {str(key): _typed(args[1], element) for key, element in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin or hint) or (hint is not bool and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {hint}")
    return value
