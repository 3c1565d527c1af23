"""The command `codegraph`: dispatch to the commands of the registry, and their help."""

import importlib
import sys
from itertools import groupby
from textwrap import fill
from typing import NoReturn

import codegraph_jax
from codegraph_jax.commands.config_files import NEEDS_A_CLONE, add_clone_root, config_names
from codegraph_jax.commands.registry import CLONE_ONLY, COMMANDS
from codegraph_jax.core.errors import UserError, did_you_mean
from codegraph_jax.core.output import steady_output


def main() -> NoReturn:
    """Runs `codegraph COMMAND [ARGUMENTS] [FLAGS]`."""
    steady_output()
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(usage())
        sys.exit(0)
    if name == "--version":
        print(f"codegraph-jax {codegraph_jax.__version__}")
        sys.exit(0)
    if name not in COMMANDS and name in CLONE_ONLY:
        _refuse(f"codegraph {name}: {NEEDS_A_CLONE.format(name)}")
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS, f"commands: {', '.join(COMMANDS)}")
        _refuse(f"{name!r} is not a command of codegraph; {hint}")
    command = COMMANDS[name]
    if "--help" in rest or "-h" in rest:
        print(usage_of(name))
        sys.exit(0)
    if command.module:
        from codegraph_jax.commands.launch import launch

        launch([f"codegraph {name}", *rest], command)
    if not command.flags and len(rest) > len(command.arguments):
        _refuse(f"codegraph {name} takes {'at most one argument' if command.arguments else 'no arguments'}")
    if command.clone_only:
        add_clone_root()
    module, _, function = command.main.partition(":")
    try:
        sys.exit(getattr(importlib.import_module(module), function)(*rest))
    except UserError as error:
        _refuse(str(error))


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


def usage_of(name: str) -> str:
    """The help text of one command, with its short flags."""
    command = COMMANDS[name]
    arguments = "".join(f" {argument}" for argument, _ in command.arguments)
    lines = [f"codegraph {name}{arguments}{' [FLAGS]' if command.module or command.flags else ''}", f"  {command.help}"]
    if command.module or command.flags:
        from codegraph_jax.commands.listing import flags_text

        flags = flags_text(command)
        lines += ["", *([flags, ""] if flags else [])]
    if command.module:
        configs = "Other configs: --config=NAME." if command.config else "Your own settings: --config=FILE.py."
        lines.append(f"Defaults in brackets. All settings: codegraph settings {name}. {configs}")
    return "\n".join(lines)


def _refuse(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)
