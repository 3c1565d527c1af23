"""Changes the words of a command."""

from collections.abc import Sequence


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
