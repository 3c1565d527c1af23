"""The command that started this process, and the arguments of commands."""

import shlex
from collections.abc import Sequence

_command = ""


def remember_command(arguments: Sequence[str]) -> None:
    """Stores the command that started this process, for the manifest."""
    global _command
    _command = shlex.join(arguments)


def started_command() -> str:
    """The command that started this process; empty if the library is used without one."""
    return _command


def without_flags(arguments: Sequence[str], *flags: str) -> list[str]:
    """The arguments of a command without some flags and their values, which follow `=` or are the next argument."""
    kept, skip = [], False
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0].removeprefix("config.")
        if skip or (argument.startswith("-") and name in flags):
            skip = not skip and "=" not in argument
            continue
        kept.append(argument)
    return kept
