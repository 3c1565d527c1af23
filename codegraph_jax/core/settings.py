"""Reading and checking settings: a ConfigDict, or any mapping, becomes a frozen dataclass.

Limits stand in the metadata of a dataclass's fields, by `choice`, `at_least` and `within`; every problem is a
`ConfigError` that names the field. Fields that are `path_like` may begin with `~`.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from codegraph_jax.core.errors import UserError

T = TypeVar("T")


class ConfigError(UserError):
    """A field of the configuration is unknown, of the wrong type, or has a value that cannot work."""


def choice(*options: object) -> dict[str, Any]:
    """Field metadata: the value must be one of `options`."""
    return {"choices": options}


def at_least(low: float) -> dict[str, Any]:
    """Field metadata: the number (or every number of a tuple) must be `low` or more."""
    return {"low": low}


def within(low: float, high: float) -> dict[str, Any]:
    """Field metadata: the number (or every number of a tuple) must lie in [low, high]."""
    return {"low": low, "high": high}


def path_like() -> dict[str, Any]:
    """Field metadata: the text (or every text of a tuple) may name a file, so that `~` is somebody's home."""
    return {"path": True}


def to_config_dict(config: Any) -> ml_collections.ConfigDict:
    """A dataclass as the ConfigDict that absl flags can override."""
    return ml_collections.ConfigDict(dataclasses.asdict(config))


def read_config(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Builds the dataclass `cls` from `values` and checks every field on the way.

    Args:
        cls: a frozen dataclass; fields may be dataclasses, and metadata may hold `choices`, `low` and `high`.
        values: a ConfigDict or a mapping of the same shape; fields that are absent keep their defaults.
        where: the name that errors begin with.

    Raises:
        ConfigError: an unknown field, a value of another type, or one out of its range.

    Examples:
        >>> from codegraph_jax.config import Config
        >>> read_config(Config, {"threshold": {"false_alarm_rate": 0.05}}).threshold.false_alarm_rate
        0.05
        >>> read_config(Config, {"threshold": {"false_alarm_rte": 0.05}})
        Traceback (most recent call last):
            ...
        codegraph_jax.core.settings.ConfigError: config.threshold.false_alarm_rte: unknown field; did you mean \
'false_alarm_rate'?
    """
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for name, value in dict(values).items():
        place = f"{where}.{name}"
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "known fields: " + ", ".join(sorted(known))
            raise ConfigError(f"{place}: unknown field; {hint}")
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping | ml_collections.ConfigDict):
                raise ConfigError(f"{place}: expected a group of fields, got {value!r}")
            built[name] = read_config(hints[name], value, place)
        else:
            built[name] = _typed(hints[name], value, place)
            if known[name].metadata.get("path"):
                built[name] = _expanded(built[name])
            _check(built[name], known[name].metadata, place)
    return cls(**built)


def _expanded(value: Any) -> Any:
    """Texts with `~` or `~NAME` at their beginning, or behind a kind or name (`csv:~/a.csv`, `a=~/b`), as the home that
    it stands for; an unknown name stays."""
    if isinstance(value, tuple):
        return tuple(_expanded(element) for element in value)
    kind, path = re.fullmatch(r"((?:[^/~]*[:=])?)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
    try:
        return kind + str(Path(path).expanduser()) if path.startswith("~") else value
    except RuntimeError:
        return value


def _typed(hint: Any, value: Any, path: str) -> Any:
    """`value` as the annotated type: exact for bool, int and str; ints pass as floats; lists pass as tuples."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            # absl hands over a scalar where one element was meant: --config.backbone.blocks=5
            value = (value,)
        return tuple(_typed(args[0], element, f"{path}[{i}]") for i, element in enumerate(value))
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _typed(next(a for a in args if a is not type(None)), value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{path}: is beyond any float") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: {value!r} is no finite number")
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{path}: expected {hint.__name__}, got {value!r}")
    return value


def _check(value: Any, limits: Mapping[str, Any], path: str) -> None:
    if limits.get("some") and not value:
        raise ConfigError(f"{path}: is empty; give one number at least")
    for element in value if isinstance(value, tuple) else (value,):
        if "choices" in limits and element not in limits["choices"]:
            raise ConfigError(f"{path}: {element!r} is not one of {', '.join(map(str, limits['choices']))}")
        if limits.get("odd") and element % 2 == 0:
            raise ConfigError(f"{path}: {element!r} is even; a neighbourhood has a patch in its middle")
        # written so that NaN fails both comparisons
        if "low" in limits and not element >= limits["low"]:
            raise ConfigError(f"{path}: {element!r} is below {limits['low']}")
        if "high" in limits and not element <= limits["high"]:
            raise ConfigError(f"{path}: {element!r} is above {limits['high']}")
