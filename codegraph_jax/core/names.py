"""File names as text that can be shown, drawn, linked and written: they may hold anything but a NUL."""

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import quote

NAME_BYTES = 255
"""The longest file name that common file systems take."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_FORMULA = ("=", "+", "-", "@")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE = re.compile(r"[^\w.-]+")


def shown(name: str) -> str:
    """`name` as valid Unicode on one line.

    Control characters become their pictures (a newline is ␊). The replacement character stands for bytes that are not
    UTF-8, and for marks of writing direction, by which a name can be shown backwards.
    """
    return _CONTROL.sub(_picture, _SURROGATE.sub("\ufffd", name))


def composed(name: str) -> str:
    """`name` in Unicode's composed form (NFC): macOS writes an umlaut as two characters, others as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def table_cell(text: str) -> str:
    """`text` as valid Unicode on one line that no spreadsheet takes for a formula: an apostrophe goes before it."""
    text = shown(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def trimmed(text: str, length: int) -> str:
    """At most `length` characters of `text`: the middle is left out, since names differ at their ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def relative_url(path: str | os.PathLike[str]) -> str:
    """The relative path of a file as a URL, byte for byte: `a b#1.png` is a%20b%231.png."""
    # a colon in the first part would be read as the end of a scheme; quote() escapes it
    return quote(os.fsencode(path), safe="/")


def output_path(directory: Path, category: str, name: str, suffix: str = ".png") -> Path:
    """Where the output that belongs to image `name` of a category goes; a name that grows too long ends in a hash."""
    parts = [*directory.parts, category, *name.split("/")]
    last = parts.pop()
    if len(os.fsencode(last + suffix)) > NAME_BYTES:
        mark = hashlib.sha256(os.fsencode(last)).hexdigest()[:12]
        kept = os.fsencode(last)[: NAME_BYTES - len(suffix) - len(mark) - 1]
        last = f"{os.fsdecode(kept)}-{mark}"
    return Path(*parts, last + suffix)


def file_stem(text: str) -> str:
    """A short name that every file system takes, made from any text."""
    plain = _UNSAFE.sub("_", shown(text)).strip("._") or "category"
    if plain == text and len(text) <= 80:
        return text
    # surrogatepass: any text has a hash, whatever lone surrogates a list has brought along
    return f"{plain[:60]}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
