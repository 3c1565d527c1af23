"""The command `codegraph`: short commands for `main.py --config=...`, with the same configs and overrides."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import NoReturn

import codegraph_jax
from codegraph_jax.commands.config_files import CLONE_ONLY, NEEDS_A_CLONE, clone_root, config_names
from codegraph_jax.core.errors import UserError, did_you_mean
from codegraph_jax.core.output import steady_output


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        help: one line of help.
        config: the default config; empty if `--config` is required.
        tasks: tasks that the command may run; empty if it runs no config.
        arguments: (name in the usage, setting) of each positional argument.
    """

    help: str
    config: str = ""
    tasks: tuple[str, ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()


COMMANDS = {
    "demo": Command("draws 48 machined parts and finds their defects", "demo", ("detect",)),
    "detect": Command(
        "finds defective photos in a folder, where the defects are, and which ones recur",
        "folder",
        ("detect",),
        (("PHOTOS", "data.root"),),
    ),
    "inspect": Command(
        "inspects new photos with a saved reference bank",
        "inspect",
        ("inspect",),
        (("BANK", "bank.path"), ("PHOTOS", "data.root")),
    ),
    "choose": Command("compares networks on your photos", "choose", ("choose",), (("PHOTOS", "data.root"),)),
    "watch": Command(
        "inspects photos as they arrive in a folder",
        "watch",
        ("watch",),
        (("BANK", "bank.path"), ("FOLDER", "watch.root")),
    ),
    "serve": Command(
        "inspects photos that are sent over HTTP, and shows them on a web page",
        "serve",
        ("serve",),
        (("BANK", "bank.path"),),
    ),
    "parts": Command("exports the inspected parts of a line as a table", "parts", ("parts",), (("LINE", "line"),)),
    "extend": Command(
        "adds good or defective photos to a bank, or restores an earlier revision",
        "extend",
        ("extend",),
        (("BANK", "bank.path"), ("PHOTOS", "data.root")),
    ),
    "export": Command(
        "writes a compact bank as a program that runs without this package",
        "export",
        ("export",),
        (("BANK", "bank.path"), ("FILE", "save")),
    ),
    "train": Command(
        "trains a network for out-of-distribution detection (OECL)",
        "folder_oecl",
        ("oecl",),
        (("NORMAL", "data.train"), ("OTHER", "oe.source")),
    ),
    "score": Command(
        "scores photos with a trained network",
        "folder_oecl:score",
        ("oecl_score",),
        (("RUN", "run"), ("PHOTOS", "images")),
    ),
    "recurring": Command("measures the gain from detecting recurring defects", "recurring", ("recurring",)),
    "thresholds": Command("measures the accuracy of the threshold", "thresholds", ("thresholds",)),
    "answers": Command("measures the gain from a few answers about photos", "answers", ("answers",)),
    "oecl-studies": Command(
        "compares OECL's losses over classes and numbers of OE images", "oecl_studies", ("oecl_study",)
    ),
    "benchmark": Command("measures the speed of this machine", "benchmark", ("benchmark",)),
    "settings": Command("lists all settings, or those that contain a word", arguments=(("WORD", ""),)),
    "doctor": Command("checks this computer, and prints what is missing and how to fix it"),
}
"""Commands by name; measurements run only from a clone."""
AREAS = {
    "Photos in a folder": ("demo", "detect", "inspect", "choose"),
    "A production line": ("watch", "serve", "parts", "extend", "export"),
    "Networks for out-of-distribution detection": ("train", "score"),
    "Measurements": ("recurring", "thresholds", "answers", "oecl-studies", "benchmark"),
    "Help": ("settings", "doctor"),
}
"""Commands in the order of `codegraph --help`."""
if not clone_root():
    for _name in AREAS.pop("Measurements"):
        del COMMANDS[_name]


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
    if name not in COMMANDS and (config := name.replace("-", "_")) in CLONE_ONLY:
        _refuse(f"codegraph {name}: {NEEDS_A_CLONE.format(config)}")
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS, f"commands: {', '.join(COMMANDS)}")
        _refuse(f"{name!r} is not a command of codegraph; {hint}")
    command = COMMANDS[name]
    if "--help" in rest or "-h" in rest:
        print(usage_of(name))
        sys.exit(0)
    if not command.tasks:
        if len(rest) > len(command.arguments):
            _refuse(f"codegraph {name} takes {'one word' if command.arguments else 'no arguments'}")
        sys.exit(_without_config(name, rest))
    from codegraph_jax.commands.launch import launch

    launch([f"codegraph {name}", *rest], command.tasks, command.config, [field for _, field in command.arguments])


def _without_config(name: str, rest: Sequence[str]) -> int:
    """Runs a command that has no config; returns the exit status."""
    if name == "doctor":
        from codegraph_jax.commands import doctor

        return doctor.main()
    from codegraph_jax.commands.listing import settings_text

    try:
        print(settings_text(rest[0] if rest else ""))
    except UserError as error:
        _refuse(str(error))
    return 0


def usage() -> str:
    """The help text of all commands."""
    width = max(map(len, COMMANDS))
    lines = []
    for area, names in AREAS.items():
        lines += [f"{area}:", *(f"  {name:<{width}}  {COMMANDS[name].help}" for name in names), ""]
    return "\n".join(
        [
            "codegraph COMMAND [FLAGS]",
            "Start here: codegraph detect /my/photos",
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
    lines = [f"codegraph {name}{arguments}{' [FLAGS]' if command.tasks else ''}", f"  {command.help}"]
    if command.tasks:
        from codegraph_jax.commands.listing import flags_text

        flags = flags_text(command.config, [path for _, path in command.arguments])
        lines += ["", *([flags, ""] if flags else [])]
        lines.append(f"Defaults in brackets. All settings: codegraph settings {name}. Other configs: --config=NAME.")
    return "\n".join(lines)


def _refuse(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)
