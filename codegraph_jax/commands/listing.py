"""Settings as text: the short flags of a command, and the list of all settings."""

import re
from collections.abc import Iterator
from textwrap import fill
from typing import Any

from codegraph_jax.commands.command_line import OUT, OUT_HELP, SHORT, ShortFlag
from codegraph_jax.commands.config_files import load_config
from codegraph_jax.commands.launch import task_settings
from codegraph_jax.commands.registry import COMMANDS, TASKS, Command
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import Setting, setting_at

WIDTH = 100
WITHOUT_JAX = ("codegraph_jax.config:", "codegraph_jax.line.settings:")
"""Settings that are read without loading JAX."""
NOT_IN_SWEEPS = ("review", "save-bank", "csv", "false-alarms", "threshold")
"""Short flags without effect on the tables of a sweep."""


def flags_text(command: Command) -> str:
    """The help of the short flags of a command, one per line, without those of its positional arguments."""
    values, settings = (load_config(command.config), task_settings(command.task)) if command.module else (None, {})
    rows = [*([(f"--{OUT} DIR", OUT_HELP)] if command.has_workdir else []), *command.flags]
    for name, short in SHORT.items():
        useless = command.sweeps and name in NOT_IN_SWEEPS
        if short.path in settings and not useless and short.path not in dict(command.arguments).values():
            rows.append((f"--{name} {short.value}".rstrip(), f"{short.help}{_default(values, short)}"))
    if command.flags_photos:
        rows.append(("--exit-code", "exit status 1 if a photo is flagged, 3 if there are too few photos"))
    width = max((len(flag) for flag, _ in rows), default=0)
    return "\n".join(f"  {flag:<{width}}  {text}" for flag, text in rows)


def _default(values: Any, short: ShortFlag) -> str:
    """The value in a config, in brackets; empty if there is none, or if the threshold follows another rule."""
    value = setting_at(values, short.path)
    if short.rule:
        kind, _, value = value.partition(":")
        value = value if kind == short.rule else ""
    value = next((word for word, meaning in short.words.items() if meaning == value), value)
    return f" ({value})" if value and value != -1 else ""


def settings_text(word: str) -> str:
    """All settings with their defaults and meanings, by command.

    `word` is a command, or text in the name or meaning of settings.

    Raises:
        UserError: no setting contains the word.
    """
    if word in COMMANDS and COMMANDS[word].module:
        return _block(COMMANDS[word], "", set())
    listed: set[tuple[type, str]] = set()
    blocks: list[str] = []
    # commands that take seconds to load come last, and are skipped if the others contain the word
    for quick in (True, False):
        commands = [command for command in TASKS.values() if command.settings.startswith(WITHOUT_JAX) == quick]
        if not word or not blocks:
            blocks += [text for command in commands if (text := _block(command, word, listed))]
    if not blocks:
        raise UserError(f"no setting contains {word!r} in its name or meaning; codegraph settings lists all")
    return "\n\n".join(blocks)


def _block(command: Command, word: str, listed: set[tuple[type, str]]) -> str:
    """The settings of a command that contain a word and are not listed yet."""
    values = load_config(command.config)
    entries = []
    for setting in task_settings(str(values.task)).values():
        known = (setting.owner, setting.path.rpartition(".")[2])
        if known not in listed and setting.path != "task" and _is_about(setting, word):
            entries.append(_entry(setting, values))
        listed.add(known)
    return "\n".join([f"codegraph {command.name}", *entries]) if entries else ""


def _is_about(setting: Setting, word: str) -> bool:
    text = f"--config.{setting.path} {' '.join(_short(setting))} {setting.meaning}".lower()
    return word.lower() in text


def _short(setting: Setting) -> Iterator[str]:
    for name, short in SHORT.items():
        if setting.path == short.path:
            yield f"--{name}"


def _entry(setting: Setting, values: Any) -> str:
    """A setting: a line with its flags and default, and its meaning below."""
    value = setting_at(values, setting.path)
    default = "" if value in ("", ()) else f" = {','.join(map(str, value)) if setting.several else value}"
    names = ", ".join([f"--config.{setting.path}{default}", *_short(setting)])
    choices = setting.limits.get("choices")
    # the docs are not installed
    meaning = re.sub(r" \(docs/[^)]*\)", "", setting.meaning)
    meaning += f" One of: {', '.join(map(str, choices))}." if choices else ""
    return f"  {names}\n{fill(meaning, WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6)}"
