"""Settings as text: the short flags of a command, and the list of all settings."""

import re
from collections.abc import Iterator
from operator import attrgetter
from textwrap import fill
from typing import Any

from codegraph_jax.commands.command_line import ARGUMENTS, BANK_BACKBONE, OUT, OUT_HELP, SHORT, ShortFlag
from codegraph_jax.commands.launch import default_config, task_settings
from codegraph_jax.commands.registry import COMMANDS, TASKS, Command
from codegraph_jax.config import SavedBackboneConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import Setting

WIDTH = 100
FILES_ONLY = "in config files only"


def main(word: str = "") -> int:
    """Prints the settings for `codegraph settings WORD`, see `settings_text`; returns 0."""
    text = settings_text(word)
    print(text)
    if FILES_ONLY in text:
        print(f'\n"{FILES_ONLY}": --config=FILE.py; docs/commands.md in the repository, "Settings in a file"')
    return 0


def flags_text(command: Command, config: str = "") -> str:
    """The help of the short flags of a command, one per line, after its positional arguments.

    Args:
        command: the command.
        config: name of the config that has the defaults; empty: that of the command.

    Raises:
        UserError: the config cannot be read or is for another command.
    """
    values = default_config(config or command.config, command) if command.module else None
    settings = task_settings(values.task) if values else {}
    names = [name.strip("[]") for name in dict(command.arguments)]
    rows = [(name, ARGUMENTS[name]) for name in names if name in ARGUMENTS]
    rows += [*([(f"--{OUT} DIR", OUT_HELP)] if command.has_workdir else []), *command.flags]
    for name, short in SHORT.items():
        listed = short.path in settings and name not in command.unlisted
        if listed and short.path not in dict(command.arguments).values():
            of_a_bank = name == "backbone" and settings[short.path].owner is SavedBackboneConfig
            help_text = BANK_BACKBONE if of_a_bank else short.help
            rows.append(
                (f"--{name} {short.value}".rstrip(), f"{help_text}{_default(values, settings[short.path], short)}")
            )
    if command.several_processes:
        only = ", only with a training's config" if command.other_tasks else ""
        rows.append(("--coordinator HOST:PORT", f"for several hosts{only}; with --processes N and --process-id K"))
    if command.flags_photos:
        few = "the bank was made from" if "bank.path" in settings else "there are"
        rows.append(("--exit-code", f"exit status 1 if a photo is flagged, 3 if {few} too few photos"))
    width = max((len(flag) for flag, _ in rows), default=0)
    return "\n".join(f"  {flag:<{width}}  {text}" for flag, text in rows)


def _default(values: Any, setting: Setting, short: ShortFlag) -> str:
    """The value in a config, after the help; empty if there is none, or if the threshold follows another rule."""
    value = _value_text(setting, values) if short.value else ""
    if short.rule:
        value = value.removeprefix(f"{short.rule}:") if value.startswith(f"{short.rule}:") else ""
    value = next((word for word, meaning in short.named_values.items() if meaning == value), value)
    return f"; default {value}" if value else ""


def _value_text(setting: Setting, values: Any) -> str:
    """The value of a setting in a config, as on the command line; empty if there is none."""
    value = attrgetter(setting.path)(values)
    if value is None:
        return setting.rules.unset
    return ",".join(map(str, value)) if setting.is_tuple else f"{value:g}" if isinstance(value, float) else str(value)


def settings_text(word: str) -> str:
    """All settings with their defaults and meanings, by command; a setting of several commands is listed once.

    `word` is a command, or text in the name or meaning of settings. After the settings of a command come the names of
    others that contain the word.

    Raises:
        UserError: no setting contains the word.
    """
    described: dict[tuple[type, str], tuple[str, str]] = {}
    if word in COMMANDS and not COMMANDS[word].module:
        raise UserError(f"codegraph {word} has no settings; see codegraph {word} --help")
    if word in COMMANDS:
        own = task_settings(COMMANDS[word].task)
        paths = dict.fromkeys(path for task in TASKS for path in task_settings(task) if word in path)
        also = [path for path in paths if path not in own and not path.startswith("detect.")]
        note = f"Settings of other commands with this name: {', '.join(also)}."
        return "\n".join([_block(COMMANDS[word], "", described), *([_filled(note, 2)] if also else [])])
    blocks = [text for command in TASKS.values() if (text := _block(command, word, described))]
    if not blocks:
        raise UserError(
            f"no setting contains {word!r} in its name or meaning; codegraph settings lists all, and codegraph COMMAND "
            "--help has the other flags"
        )
    return "\n\n".join(blocks)


def _block(command: Command, word: str, described: dict[tuple[type, str], tuple[str, str]]) -> str:
    """The settings of a command that contain a word; of those in `described` the names, and defaults that differ.

    `described` has the command that describes a setting, and its default there; new ones are added.
    """
    values = default_config(command.config, command)
    with_flag, every = (task_settings(values.task, without_flag=there) for there in (False, True))
    usual = [path for _, path in command.arguments] + [short.path for short in SHORT.values()]

    def position(setting: Setting) -> tuple[bool, int]:
        # the settings that are changed most often first, and those of config files last
        return setting.path not in with_flag, [*usual, setting.path].index(setting.path)

    entries: list[str] = []
    elsewhere: dict[str, list[str]] = {}
    for setting in sorted(every.values(), key=position):
        name, default = setting.path.rpartition(".")[2], _default_text(setting, values)
        if name == "task" or not _is_about(setting, word):
            continue
        describing, default_there = described.setdefault((setting.owner, name), (command.name, default))
        if describing == command.name:
            entries.append(_entry(setting, default, "" if setting.path in with_flag else f" ({FILES_ONLY})"))
        elif setting.path in with_flag:
            # studies have all settings of a detection in one group, which a search shows as those of `codegraph detect`
            of_detection = setting.path.startswith("detect.")
            if not (word and of_detection):
                shown = "detect.*" if of_detection else setting.path + (default if default != default_there else "")
                elsewhere.setdefault(describing, []).append(shown)
    if elsewhere:
        names = [f"{', '.join(dict.fromkeys(paths))} (see codegraph {name})" for name, paths in elsewhere.items()]
        entries.append(_filled(f"Also accepts: {'; '.join(names)}.", 2))
    return "\n".join([f"codegraph {command.name}", *entries]) if entries else ""


def _is_about(setting: Setting, word: str) -> bool:
    text = f"--config.{setting.path} {' '.join(_short_forms(setting))} {setting.meaning}".lower()
    return word.lower() in text


def _short_forms(setting: Setting) -> Iterator[str]:
    """The short flags of a setting, each with an example of its value."""
    for name, short in SHORT.items():
        if setting.path == short.path:
            value = short.named_values.get(short.value, short.value)
            named = "; ".join(["", *(f"{word}: {meaning}" for word, meaning in short.named_values.items())])
            yield f"--{name} {value}".rstrip() + (f" (= {short.rule}:{value}{named})" if short.rule else "")


def _default_text(setting: Setting, values: Any) -> str:
    value = _value_text(setting, values)
    return f" = {value}" if value else ""


def _entry(setting: Setting, default: str, note: str) -> str:
    """A setting: a line with its flags and default, and its meaning below."""
    dashes = "" if note else "--"
    names = ", ".join([f"{dashes}config.{setting.path}{default}{note}", *_short_forms(setting)])
    choices = setting.rules.choices
    # the docs are not installed
    meaning = re.sub(r" \(docs/[^)]*\)|, docs/[^)]*(?=\))", "", setting.meaning)
    if choices and setting.is_tuple:
        meaning += f" Any of: {', '.join(map(str, choices))} (comma-separated)."
    elif choices and not all(f"`{choice}`" in meaning for choice in choices):
        meaning += f" One of: {', '.join(map(str, choices))}."
    return f"{_filled(names, 2, hanging=2)}\n{_filled(meaning, 6)}"


def _filled(text: str, indent: int, hanging: int = 0) -> str:
    """The text in lines of at most `WIDTH` characters, indented; lines after the first by `hanging` more."""
    first, further = " " * indent, " " * (indent + hanging)
    return fill(text, WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)
