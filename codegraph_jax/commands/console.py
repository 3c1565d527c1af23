"""The command `codegraph`: short words for what `main.py --config=...` does, with the same configs and overrides."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import NoReturn

from codegraph_jax.commands.shipped import config_names


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        says: what it does, in one line.
        config: the config where the flags name none; empty where they have to.
        tasks: which tasks it may run; none: it runs no config.
        words: the flag that each word after the command stands for, by the word's name in the usage.
    """

    says: str
    config: str = ""
    tasks: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()


COMMANDS = {
    "demo": Command("draws 48 machined parts and finds their defects", "demo", ("detect",)),
    "detect": Command(
        "which photographs of a folder show defects, where, and which defects recur",
        "folder",
        ("detect",),
        (("PHOTOS", "--config.data.root"),),
    ),
    "inspect": Command(
        "judges new photographs by the bank of an earlier run",
        "inspect",
        ("inspect",),
        (("BANK", "--config.bank.path"), ("PHOTOS", "--config.data.root")),
    ),
    "watch": Command(
        "judges photographs as they come into a folder",
        "watch",
        ("watch",),
        (("BANK", "--config.bank.path"), ("FOLDER", "--config.watch.root")),
    ),
    "serve": Command(
        "judges photographs that are sent over HTTP, and shows them on a page",
        "serve",
        ("serve",),
        (("BANK", "--config.bank.path"),),
    ),
    "parts": Command("what a line has judged, as a table", "parts", ("parts",), (("LINE", "--config.line"),)),
    "extend": Command(
        "adds approved photographs to a bank, or takes it back",
        "extend",
        ("extend",),
        (("BANK", "--config.bank.path"), ("PHOTOS", "--config.data.root")),
    ),
    "export": Command(
        "writes a compact bank as one program",
        "export",
        ("export",),
        (("BANK", "--config.bank.path"), ("FILE", "--config.save")),
    ),
    "train": Command(
        "trains a network for out-of-distribution detection (OECL)",
        "folder_oecl",
        ("oecl",),
        (("NORMAL", "--config.data.train"), ("OTHER", "--config.oe.source")),
    ),
    "score": Command(
        "scores photographs with a trained network",
        "folder_oecl:score",
        ("oecl_score",),
        (("RUN", "--config.run"), ("PHOTOS", "--config.images")),
    ),
    "choose": Command(
        "compares backbones on your photographs", "choose", ("choose",), (("PHOTOS", "--config.data.root"),)
    ),
    "recurring": Command("measures what finding recurring defects gains", "recurring", ("recurring",)),
    "thresholds": Command("measures the threshold", "thresholds", ("thresholds",)),
    "looks": Command("measures what a few answers decide", "looks", ("looks",)),
    "benchmark": Command("measures the machine", "benchmark", ("benchmark",)),
    "doctor": Command("says what is here, what is missing, and how to mend it"),
}
"""Every command by its name."""

ALONE = ("--exit-code", "--exit_code", "--help", "--helpfull", "-h")
"""Flags that are followed by no value of theirs."""


def main() -> NoReturn:
    """`codegraph COMMAND [WORDS] [FLAGS]`."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(usage())
        sys.exit(0)
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"commands: {', '.join(COMMANDS)}"
        _refuse(f"{name!r} is no command of codegraph; {hint}")
    command = COMMANDS[name]
    if "--help" in rest or "-h" in rest:
        print(usage_of(name))
        sys.exit(0)
    if not command.tasks:
        if rest:
            _refuse(f"codegraph {name} takes no arguments")
        from codegraph_jax.commands import doctor

        sys.exit(doctor.main())
    from codegraph_jax.commands.launch import launch

    launch([f"codegraph {name}", *flags_of(name, rest)], command.tasks)


def flags_of(name: str, rest: Sequence[str]) -> list[str]:
    """What the words after a command mean to `main.py`."""
    command = COMMANDS[name]
    words, flags = _sorted_out(rest)
    configs = [flag for flag in flags if flag.startswith("--config=")] or [f"--config={command.config}"]
    if len(words) > len(command.words):
        _refuse(f"unexpected argument {words[len(command.words)]!r}\n{usage_of(name)}")
    # absl knows the fields of a config only once it has been named
    flags = [flag for flag in flags if flag not in configs]
    return [*configs, *(f"{flag}={word}" for (_, flag), word in zip(command.words, words)), *flags]


def usage() -> str:
    """All commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.says}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "codegraph COMMAND [FLAGS]",
            "",
            *lines,
            "",
            "codegraph detect /my/photos",
            "codegraph COMMAND --help",
            "",
            fill("Every setting is a flag, as --config.data.cache=DIR; results go to --workdir=DIR, or runs/ and the "
                 "config's name. --exit-code ends with status 1 when something is flagged.", 100),
            "",
            fill(f"Configs by name, as --config=mvtec: {', '.join(config_names())}.", 100),
        ]
    )  # fmt: skip


def usage_of(name: str) -> str:
    """One command."""
    command = COMMANDS[name]
    words = "".join(f" {word}" for word, _ in command.words)
    lines = [f"codegraph {name}{words}{' [FLAGS]' if command.tasks else ''}: {command.says}"]
    if command.tasks:
        stands = [f"{word} for {flag}=" for word, flag in command.words] + [f"the config is {command.config}"]
        lines.append("; ".join(stands))
        lines.append("other configs: --config=NAME or FILE; every setting: --config.GROUP.FIELD=VALUE")
    return "\n".join(lines)


def _sorted_out(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words, flags); a flag without `=` takes the next word as its value, as absl has it."""
    words: list[str] = []
    flags: list[str] = []
    takes_value = False
    for word in rest:
        if takes_value:
            flags[-1] += f"={word}"
            takes_value = False
        elif word.startswith("-") and len(word) > 1:
            flags.append(word)
            takes_value = "=" not in word and word not in ALONE and not word.startswith("--no")
        else:
            words.append(word)
    return words, flags


def _refuse(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)
