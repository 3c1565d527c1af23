"""Texts of the pages in English and German, by key.

texts.en.json and texts.de.json of each package hold the texts; shared.js chooses the language in the browser. Files and
the terminal are in English.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Union

from codegraph_jax.core.json_fields import plain

LANGUAGES = ("en", "de")

Value = Union[str, int, float, "Text", Sequence["Value"]]


@dataclass(frozen=True)
class Text:
    """A text of the pages with its values; `str` gives it in English, as shared.js does."""

    key: str
    values: Mapping[str, Value]

    def __str__(self) -> str:
        texts = texts_of("report", "en")
        one = self.values.get("count") == 1 and f"{self.key}_one" in texts
        text = texts[f"{self.key}_one" if one else self.key]
        return re.sub(r"\{(\w+)\}", lambda found: _english(self.values[found[1]]), text)

    def as_json(self) -> dict[str, Any]:
        """The text as shared.js reads it."""
        return {"t": self.key} | plain(self.values)


def text(key: str, **values: Value) -> Text:
    """The text with this key."""
    return Text(key, values)


@cache
def texts_of(package: str, language: str) -> dict[str, str]:
    """The texts of a package, such as `report`."""
    return json.loads(package_text(f"texts.{language}.json", package))


def package_text(name: str, package: str = "report") -> str:
    """A text file of a package."""
    return files(f"codegraph_jax.{package}").joinpath(name).read_text(encoding="utf-8")


def style_of(package: str) -> str:
    """The style of the pages of a package: the colours of all pages, and its own rules."""
    return package_text("palette.css") + package_text("page.css", package)


def texts_script(package: str) -> str:
    """The line of a script that adds the texts of a package."""
    return f"texts.add({script_json({language: texts_of(package, language) for language in LANGUAGES})});\n"


def shared_script() -> str:
    """The script that the scripts of all pages build on, with the texts of the report."""
    return package_text("shared.js") + texts_script("report")


def script_json(value: Any) -> str:
    """JSON for a script element, without `</script>` and `<!--`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _english(value: Value) -> str:
    if isinstance(value, list | tuple):
        *most, last = map(_english, value or [""])
        return f"{', '.join(most)} and {last}" if most else last
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)
