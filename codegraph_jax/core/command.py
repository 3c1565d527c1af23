"""The command that started this process, and the words of commands."""

import shlex
from collections.abc import Sequence

_command = ""


def remember_command(words: Sequence[str]) -> None:
    """Stores the command that started this process, for the manifest."""
    global _command
    _command = shlex.join(words)


def command_line() -> str:
    """The command that started this process; empty if the library is used without one."""
    return _command


def without_flags(words: Sequence[str], *flags: str) -> list[str]:
    """The words of a command without some flags and their values, which follow after `=` or as the next word."""
    kept, skip = [], False
    for word in words:
        name = word.lstrip("-").partition("=")[0].removeprefix("config.")
        if skip or (word.startswith("-") and name in flags):
            skip = not skip and "=" not in word
            continue
        kept.append(word)
    return kept
