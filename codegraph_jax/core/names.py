"""Makes file names safe to print, draw, link and write: a file name may hold any bytes but NUL."""

import hashlib
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

SUFFIX = ".png"
NAME_BYTES = 255
"""Longest file name in bytes on common file systems."""
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


def trimmed(text: str, length: int) -> str:
    """`text` shortened to `length` characters in the middle, since names often differ at their ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def relative_url(path: str | os.PathLike[str]) -> str:
    """The relative path of a file as a URL, byte for byte: `a b#1.png` is a%20b%231.png."""
    # quote() also escapes a colon, which would read as the end of a scheme
    return quote(os.fsencode(path), safe="/")


def output_path(directory: Path, category: str, name: str) -> Path:
    """Path of the PNG file for image `name` of a category; a name that is too long is shortened to end in a hash."""
    parts = [*directory.parts, category, *name.split("/")]
    last = parts.pop()
    if len(os.fsencode(last + SUFFIX)) > NAME_BYTES:
        mark = hashlib.sha256(os.fsencode(last)).hexdigest()[:12]
        kept = os.fsencode(last)[: NAME_BYTES - len(SUFFIX) - len(mark) - 1]
        last = f"{os.fsdecode(kept)}-{mark}"
    return Path(*parts, last + SUFFIX)


def heatmap_of(workdir: Path, category: str, path: str) -> Path | None:
    """Path below the workdir of the heat map of a photo; None if there is none.

    Args:
        workdir: directory of a run.
        category: of the photo, as in scores.json.
        path: of the photo; the file is named after an end of it, of which the longest counts.
    """
    parts = Path(path).parts
    for start in range(len(parts)):
        # category and path are from a file of the run, and must not lead out of its directory
        with suppress(OSError, ValueError):
            name = output_path(Path("heatmaps"), category, "/".join(parts[start:]))
            real = (workdir / name).resolve(strict=True)
            if real.is_relative_to((workdir / "heatmaps").resolve()) and real.is_file():
                return name
    return None


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
