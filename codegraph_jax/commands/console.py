"""The command `codegraph`: dispatch to the commands of the registry, and their help."""

import importlib
import sys
from collections.abc import Sequence
from itertools import groupby
from textwrap import fill
from typing import NoReturn

import codegraph_jax
from codegraph_jax.commands.config_files import NEEDS_A_CLONE, add_clone_root, config_names
from codegraph_jax.commands.registry import CLONE_ONLY, COMMANDS
from codegraph_jax.core.errors import UserError, did_you_mean
from codegraph_jax.core.output import steady_output


def main() -> NoReturn:
    """Runs `codegraph COMMAND [ARGUMENTS] [FLAGS]`, and exits."""
    steady_output()
    try:
        sys.exit(_run(*sys.argv[1:] or ["--help"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _run(name: str, *rest: str) -> int:
    """Runs a command with its arguments; returns the exit status.

    Raises:
        UserError: the command is unknown, or an argument is wrong.
    """
    if name in ("--help", "-h", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"codegraph-jax {codegraph_jax.__version__}")
        return 0
    if name not in COMMANDS and name in CLONE_ONLY:
        raise UserError(f"codegraph {name}: {NEEDS_A_CLONE.format(name)}")
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS, f"commands: {', '.join(COMMANDS)}")
        raise UserError(f"{name!r} is not a command of codegraph; {hint}")
    command = COMMANDS[name]
    if "--help" in rest or "-h" in rest:
        print(usage_of(name, rest))
        return 0
    if not command.entry_point:
        from codegraph_jax.commands.launch import launch

        launch([f"codegraph {name}", *rest], command)
    if not command.flags and len(rest) > len(command.arguments):
        raise UserError(f"codegraph {name} takes {'at most one argument' if command.arguments else 'no arguments'}")
    if command.clone_only:
        add_clone_root()
    module, _, function = command.entry_point.partition(":")
    status: int = getattr(importlib.import_module(module), function)(*rest)
    return status


def usage() -> str:
    """The help text of all commands."""
    width = max(map(len, COMMANDS))
    lines: list[str] = []
    for area, commands in groupby(COMMANDS.values(), key=lambda command: command.area):
        lines += [f"{area}:", *(f"  {command.name:<{width}}  {command.help}" for command in commands), ""]
    return "\n".join(
        [
            "codegraph COMMAND [FLAGS]",
            "Start here: codegraph app, or codegraph detect /my/photos",
            "",
            *lines,
            fill("codegraph COMMAND --help lists the usual flags; codegraph settings lists every setting, such as "
                 "--config.data.cache=DIR. With --exit-code the exit status is 1 if a photo is flagged.", 100),
            "",
            fill(f"Configs by name, as --config=mvtec: {', '.join(config_names())}.", 100),
        ]
    )  # fmt: skip


def usage_of(name: str, arguments: Sequence[str] = ()) -> str:
    """The help text of one command: its short flags, with the defaults of the config that its arguments name."""
    command = COMMANDS[name]
    names = "".join(f" {argument}" for argument, _ in command.arguments)
    lines = [f"codegraph {name}{names}{' [FLAGS]' if command.module or command.flags else ''}", f"  {command.help}"]
    if command.module or command.flags:
        from absl import flags

        from codegraph_jax.commands.launch import parse_flags
        from codegraph_jax.commands.listing import flags_text

        parse_flags([argument for argument in arguments if argument not in ("--help", "-h")])
        rows = flags_text(command, flags.FLAGS.config or "")
        lines += ["", *([rows, ""] if rows else [])]
    if command.module:
        configs = "Other configs: --config=NAME." if command.config else "Your own settings: --config=FILE.py."
        lines.append(f"All settings: codegraph settings {name}. {configs}")
    return "\n".join(lines)
