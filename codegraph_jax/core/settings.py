"""Reading and checking settings: a ConfigDict, or any mapping, becomes a frozen dataclass.

Limits stand in the metadata of a dataclass's fields, by `choice`, `at_least` and `within`; every problem is a
`ConfigError` that names the field. Fields that are `path_like` may begin with `~`.
"""

import ast
import dataclasses
import functools
import inspect
import math
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from codegraph_jax.core.errors import UserError, did_you_mean

T = TypeVar("T")

SWITCH = {True: "on", False: "off", "true": "on", "false": "off", "True": "on", "False": "off"}
"""What else people write for the values of a switch."""


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


def switch() -> dict[str, Any]:
    """Field metadata: the text is `on`, `off` or `auto`; a bool is read as one of the first two."""
    return choice("auto", "on", "off") | {"switch": True}


def path_like() -> dict[str, Any]:
    """Field metadata: the text (or every text of a tuple) may name a file, so that `~` is somebody's home."""
    return {"path": True}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a config, which is no group of settings.

    Attributes:
        path: from the config down, such as `threshold.value`.
        hint: the annotated type.
        limits: the metadata of the field.
        owner: the dataclass that has the field.
    """

    path: str
    hint: Any
    limits: Mapping[str, Any]
    owner: type

    @property
    def meaning(self) -> str:
        """The sentences that explain it."""
        return _meanings(self.owner).get(self.path.rpartition(".")[2], "")

    @property
    def element(self) -> Any:
        """The type of its elements where it is a tuple, or else its own."""
        return typing.get_args(self.hint)[0] if typing.get_origin(self.hint) is tuple else self.hint

    @property
    def several(self) -> bool:
        """Whether it is a tuple."""
        return typing.get_origin(self.hint) is tuple


def settings_of(cls: type, above: str = "") -> Iterator[Setting]:
    """All settings of a dataclass, those of its groups included, in the order of the fields."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path, hint = f"{above}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from settings_of(typing.cast(type, hint), f"{path}.")
        else:
            yield Setting(path, hint, field.metadata, cls)


@functools.cache
def _meanings(cls: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass, as one line each; those of its bases count too."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        body = typing.cast(ast.ClassDef, tree).body
        for field, after in zip(body, body[1:]):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(after.value.value).split())
    return found


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
            hint = did_you_mean(str(name), known, "known fields: " + ", ".join(sorted(known)))
            raise ConfigError(f"{place}: unknown field; {hint}")
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping | ml_collections.ConfigDict):
                raise ConfigError(f"{place}: expected a group of fields, got {value!r}")
            built[name] = read_config(hints[name], value, place)
        else:
            if known[name].metadata.get("switch") and isinstance(value, bool | str):
                value = SWITCH.get(value, value)
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
            options = [str(option) for option in limits["choices"]]
            hint = f"; {did_you_mean(str(element), options)}".removesuffix("; ")
            raise ConfigError(f"{path}: {element!r} is not one of {', '.join(options)}{hint}")
        if limits.get("odd") and element % 2 == 0:
            raise ConfigError(f"{path}: {element!r} is even; a neighbourhood has a patch in its middle")
        # written so that NaN fails both comparisons
        if "low" in limits and not element >= limits["low"]:
            raise ConfigError(f"{path}: {element!r} is below {limits['low']}")
        if "high" in limits and not element <= limits["high"]:
            raise ConfigError(f"{path}: {element!r} is above {limits['high']}")
