"""Makes file names safe to print, draw, link and write: a file name may hold any bytes but NUL."""

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

STEM_BYTES = 160
"""Longest stem in bytes: a hash, a number and a suffix follow."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_FORMULA = ("=", "+", "-", "@")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE = re.compile(r"[^\w.-]+")


def printable(name: str) -> str:
    """`name` as valid Unicode on one line.

    Control characters become visible symbols (a newline becomes ␊). The replacement character stands for bytes that
    are not UTF-8 and for marks of writing direction, which could display a name backwards.
    """
    return _CONTROL.sub(_picture, _SURROGATE.sub("\ufffd", name))


def composed(name: str) -> str:
    """`name` in composed form (NFC): macOS stores an umlaut as two characters, other systems as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def table_cell(text: str) -> str:
    """`text` as valid Unicode on one line, with an apostrophe in front if a spreadsheet would read a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def file_stem(text: str) -> str:
    """A short file name that is valid on every file system, made from any text."""
    plain = _UNSAFE.sub("_", printable(text)).strip("._") or "category"
    if plain == text and len(text) <= 80 and len(text.encode()) <= STEM_BYTES:
        return text
    kept = plain[:60].encode()[:STEM_BYTES].decode(errors="ignore")
    # surrogatepass: the text may contain lone surrogates
    return f"{kept}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def some_of(names: Sequence[str], most: int) -> str:
    """The first names for a message, and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def numbered_names(stem: str) -> Iterator[str]:
    """Names to try until one is free: the stem, stem-2, stem-3, ..."""
    yield stem
    for number in itertools.count(2):
        yield f"{stem}-{number}"


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
