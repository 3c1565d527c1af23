"""Settings: frozen dataclasses that check their values, also when they are read from a mapping or from texts.

The metadata of a field are its `FieldRules`, from `choice`, `at_least` and the like; every problem is a `ConfigError`
that names the field.
"""

import ast
import dataclasses
import functools
import inspect
import math
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from codegraph_jax.core.errors import UserError, did_you_mean
from codegraph_jax.core.json_fields import typed

T = TypeVar("T")

_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")


class ConfigError(UserError):
    """A setting is unknown, has the wrong type, or has an invalid value."""


@dataclasses.dataclass(frozen=True)
class FieldRules:
    """The rules for the value of a field.

    Attributes:
        choices: the allowed values; empty if all are.
        low, high: the range of the number (or of every number of a tuple).
        not_empty: whether the tuple must have at least one element.
        path: whether the text (or every text of a tuple) may be a path, in which `~` is expanded.
        unset: the word that stands for None on the command line; empty if None is not allowed.
        words: the words that may be given instead of a number.
        check: a function that raises a ValueError for invalid values.
        no_flag: whether the field (or group) is set in config files and code only.
    """

    choices: tuple[object, ...] = ()
    low: float | None = None
    high: float | None = None
    not_empty: bool = False
    path: bool = False
    unset: str = ""
    words: tuple[str, ...] = ()
    check: Callable[[Any], object] | None = None
    no_flag: bool = False


def choice(*options: object) -> dict[str, Any]:
    """Field metadata: the value must be one of `options`."""
    return {"choices": options}


def at_least(low: float) -> dict[str, Any]:
    """Field metadata: the number (or every number of a tuple) must be `low` or more."""
    return {"low": low}


def within(low: float, high: float) -> dict[str, Any]:
    """Field metadata: the number (or every number of a tuple) must lie in [low, high]."""
    return {"low": low, "high": high}


def no_flag() -> dict[str, Any]:
    """Field metadata: the field (or group) is set in config files and code only; it has no flag."""
    return {"no_flag": True}


def unset(word: str) -> dict[str, Any]:
    """Field metadata: on the command line `word` stands for None."""
    return {"unset": word}


def or_word(*words: str) -> dict[str, Any]:
    """Field metadata: one of these words may be given instead of the number."""
    return {"words": words}


def not_empty() -> dict[str, Any]:
    """Field metadata: the tuple must have at least one element."""
    return {"not_empty": True}


def path_like() -> dict[str, Any]:
    """Field metadata: the text (or every text of a tuple) may be a path, in which `~` is expanded."""
    return {"path": True}


def check_black_and_white(values: tuple[float, ...]) -> None:
    """Checks that pixel values of black and white are two increasing numbers, or that there are none.

    Raises:
        ValueError: they are not.
    """
    if values and (len(values) != 2 or not values[0] < values[1]):
        raise ValueError("give the pixel value of black, then the greater one of white, as in 0,4095")


class Settings:
    """Base of dataclasses of settings: each value is converted to the type of its field, and checked."""

    def __post_init__(self) -> None:
        for name, hint, rules in _fields(type(self)):
            if not dataclasses.is_dataclass(hint):  # groups have checked themselves
                value = _checked(getattr(self, name), hint, rules, f"{type(self).__name__}.{name}")
                object.__setattr__(self, name, value)


def _read_fields(cls: Any) -> list[tuple[str, Any, FieldRules]]:
    """Name, type and rules of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return [(field.name, hints[field.name], FieldRules(**field.metadata)) for field in dataclasses.fields(cls)]


# annotated, since mypy would not accept a class as an argument of a cached function
_fields: Callable[[Any], list[tuple[str, Any, FieldRules]]] = functools.cache(_read_fields)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a config.

    Attributes:
        path: dotted path below the config, such as `threshold.rule`.
        hint: the annotated type, without None and words.
        rules: the rules for its value.
        owner: the dataclass that defines the field.
    """

    path: str
    hint: Any
    rules: FieldRules
    owner: type

    @property
    def meaning(self) -> str:
        """The docstring below the field, on one line."""
        return _meanings(self.owner).get(self.path.rpartition(".")[2], "")

    @property
    def is_tuple(self) -> bool:
        """Whether the type is a tuple."""
        return typing.get_origin(self.hint) is tuple

    @property
    def element_type(self) -> Any:
        """The element type of a tuple, otherwise the type itself."""
        return typing.get_args(self.hint)[0] if self.is_tuple else self.hint


def settings_of(cls: type, above: str = "", without_flag: bool = False) -> Iterator[Setting]:
    """The settings of a dataclass and its nested dataclasses, in the order of the fields.

    `above` is the prefix of the paths; `without_flag` includes fields that have no flag.
    """
    for name, hint, rules in _fields(cls):
        path = f"{above}{name}"
        if rules.no_flag and not without_flag:
            continue
        if dataclasses.is_dataclass(hint):
            yield from settings_of(typing.cast(type, hint), f"{path}.", without_flag)
        else:
            owner = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
            if rules.unset or rules.words:
                hint = next(hint for hint in typing.get_args(hint) if hint is not types.NoneType)
            yield Setting(path, hint, rules, owner)


@functools.cache
def _meanings(cls: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and its bases, on one line each."""
    meanings: dict[str, str] = {}
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
                meanings[field.target.id] = " ".join(str(after.value.value).split())
    return meanings


def read_config(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Builds the dataclass `cls` from `values` and checks every field on the way.

    Args:
        cls: a frozen dataclass; its fields may be dataclasses, and their metadata are `FieldRules`.
        values: a mapping of the same structure; missing fields keep their defaults.
        where: the prefix of field names in errors.

    Raises:
        ConfigError: a field is unknown, has the wrong type, or is out of range.

    Examples:
        >>> from codegraph_jax.config import Config
        >>> read_config(Config, {"threshold": {"rule": "rate:5%"}}).threshold.rule
        'rate:5%'
        >>> read_config(Config, {"threshold": {"rul": "rate:5%"}})
        Traceback (most recent call last):
            ...
        codegraph_jax.core.settings.ConfigError: config.threshold.rul: no such setting; did you mean 'rule'?
    """
    known = {name: (hint, rules) for name, hint, rules in _fields(cls)}
    built: dict[str, Any] = {}
    for name, value in dict(values).items():
        path = f"{where}.{name}"
        if name not in known:
            advice = did_you_mean(str(name), known, "settings here: " + ", ".join(sorted(known)))
            raise ConfigError(f"{path}: no such setting; {advice}")
        hint, rules = known[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: is a group of settings, got {value!r}")
            built[name] = read_config(typing.cast(type, hint), value, path)
        else:
            built[name] = _checked(value, hint, rules, path)
    return cls(**built)


def with_settings(config: T, changes: Mapping[str, Any]) -> T:
    """A copy of a config with some values replaced, by their dotted paths; every field is checked (`read_config`)."""
    values = dataclasses.asdict(config)  # type: ignore[call-overload]
    for path, value in changes.items():
        group, _, name = path.rpartition(".")
        try:
            (value_at(values, group) if group else values)[name] = value
        except (KeyError, TypeError):
            raise ConfigError(f"config.{path}: there is no such setting") from None
    return read_config(type(config), values)


def parse_value(setting: Setting, text: str) -> Any:
    """The value of a text in the type of a setting; `5%` is 0.05, and a list is separated by commas or is a tuple.

    Raises:
        ValueError: the text has another type.
    """
    if setting.is_tuple:
        return tuple(_single_value(setting, item) for item in _split(setting, text))
    return _single_value(setting, text)


def is_number(text: str) -> bool:
    """Whether Python reads the text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _single_value(setting: Setting, text: str) -> Any:
    """The value of a text that is not a tuple, or of an element of a tuple."""
    rules = setting.rules
    if rules.unset and text == rules.unset:
        return None
    if text in rules.words:
        return text
    if setting.element_type is bool:
        return _bool(text, rules.unset)
    if setting.element_type in (int, float):
        return _number(text, rules, whole=setting.element_type is int)
    return text


def _bool(text: str, unset_word: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    known = f"none of true, false and {unset_word}" if unset_word else "neither true nor false"
    raise ValueError(f"{text!r} is {known}")


def _number(text: str, rules: FieldRules, whole: bool) -> float:
    """The number in a text; with `whole`, percent are not allowed."""
    plain = text.strip()
    share = plain.endswith("%") and not whole
    try:
        value = int(plain) if whole else float(plain.removesuffix("%")) / (100 if share else 1)
    except ValueError:
        point = plain.replace(",", ".", 1)
        hint = f"; write {point}" if is_number(point.removesuffix("%")) and point != plain else ""
        kind = f"a {'whole ' if whole else ''}number"
        words = rules.unset or " nor ".join(rules.words)
        raise ValueError(f"{text!r} is {f'neither {kind} nor {words}' if words else f'not {kind}'}{hint}") from None
    if not share and not whole and rules.high is not None and rules.high <= 1 < value <= 100:
        raise ValueError(f"{plain} is above {rules.high:g}; write {plain}% for {value / 100:g}")
    return value


def _split(setting: Setting, text: str) -> list[str]:
    """The texts of the elements of a tuple, which is in Python syntax or separated by commas.

    A name stays text even if Python would read a number or None. A comma followed by a space does not separate names,
    and paths are never split.
    """
    plain = text.strip()
    try:
        node = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError):
        node = None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    bracketed = plain[:1] in ("(", "[")
    if isinstance(node, ast.Tuple | ast.List) and (bracketed or '"' in text or "'" in text):
        return [_source(element, plain) for element in node.elts]
    if bracketed and (setting.element_type is not str or (node is None and "," in text)):
        text = plain[1:-1]
    if setting.rules.path:
        return [text] if text else []
    return [item for item in re.split(r",(?! )" if setting.element_type is str else ",", text) if item.strip()]


def _source(node: ast.expr, text: str) -> str:
    """The source text of an element of a tuple, without quotes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ast.get_source_segment(text, node) or ""


def value_at(values: Any, path: str) -> Any:
    """The value at a dotted path in nested settings."""
    for name in path.split("."):
        values = values[name]
    return values


def _expanded(value: Any) -> Any:
    """Text with a leading `~` or `~NAME` expanded, also after a prefix (`csv:~/a.csv`, `a=~/b`); unknown names stay."""
    if isinstance(value, tuple):
        return tuple(_expanded(element) for element in value)
    kind, path = re.fullmatch(r"((?:[^/~]*[:=])?)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
    try:
        return kind + str(Path(path).expanduser()) if path.startswith("~") else value
    except RuntimeError:
        return value


def _checked(value: Any, hint: Any, rules: FieldRules, path: str) -> Any:
    """The value of a field in its type; errors begin with the path."""
    if rules.words and (value is None or isinstance(value, str)):
        word = None if value is None else str(value)
        if word not in rules.words:
            raise ConfigError(f"{path}: {word!r} is neither a number nor {' nor '.join(rules.words)}")
        return word
    if rules.unset and isinstance(value, str) and value == rules.unset:
        value = None
    value = _converted(hint, value, path)
    if rules.path:
        value = _expanded(value)
    _check(value, rules, path)
    return value


def _converted(hint: Any, value: Any, path: str) -> Any:
    """`value` as the annotated type (`json_fields.typed`); a single value becomes a tuple where one is expected."""
    if typing.get_origin(hint) is tuple:
        elements, hints = value if isinstance(value, list | tuple) else (value,), typing.get_args(hint)
        if hints[-1] is not Ellipsis and len(elements) != len(hints):
            raise ConfigError(f"{path}: expected {len(hints)} values, got {value!r}")
        return tuple(_converted(hints[0], element, f"{path}[{i}]") for i, element in enumerate(elements))
    if isinstance(value, np.generic):
        value = value.item()
    try:
        result = typed(hint, os.fspath(value) if isinstance(value, os.PathLike) else value)
    except (TypeError, OverflowError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if isinstance(result, float) and not math.isfinite(result):
        raise ConfigError(f"{path}: {result!r} is not a finite number")
    return result


def _check(value: Any, rules: FieldRules, path: str) -> None:
    if rules.check:
        try:
            rules.check(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
    if value is None:
        return
    if rules.not_empty and not value:
        raise ConfigError(f"{path}: is empty; give at least one number")
    for element in value if isinstance(value, tuple) else (value,):
        if rules.choices and element not in rules.choices:
            options = [str(option) for option in rules.choices]
            hint = f"; {did_you_mean(str(element), options)}".removesuffix("; ")
            raise ConfigError(f"{path}: {element!r} is not one of {', '.join(options)}{hint}")
        # NaN fails both comparisons
        if rules.low is not None and not element >= rules.low:
            words = " or ".join(rules.words) or rules.unset
            hint = f"; give {rules.low} or more, or {words}" if words else ""
            raise ConfigError(f"{path}: {element!r} is below {rules.low}{hint}")
        if rules.high is not None and not element <= rules.high:
            raise ConfigError(f"{path}: {element!r} is above {rules.high}")
