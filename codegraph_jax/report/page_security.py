"""Style, script and Content-Security-Policy of the report; imports no JAX."""

import base64
import hashlib
from functools import cache

from codegraph_jax.report.texts import package_text, shared_script, style_of

SCRIPTS = (
    "active_calibration.js", "wording.js", "histogram.js", "stage.js", "files.js", "photos.js", "groups.js",
    "answers.js", "table.js", "card.js", "viewer.js", "review_file.js", "page.js",
)  # fmt: skip
"""The scripts of the report in the order in which they are joined, after those of all pages."""


@cache
def style_and_script() -> tuple[str, str]:
    """Style and script of the report."""
    return style_of("report"), "\n".join([shared_script(), *map(package_text, SCRIPTS)])


def content_policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: its own style and script, embedded pictures, and files beside it."""
    return (
        "default-src 'none'; img-src data: 'self' file:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'"
    )


def digest(text: str) -> str:
    """SHA-256 of a text in base64."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
