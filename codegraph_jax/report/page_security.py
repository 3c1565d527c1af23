"""Style, script and Content-Security-Policy of the report; imports no JAX."""

import base64
import hashlib
from functools import cache

from codegraph_jax.report.texts import package_text, shared_script, style_of


@cache
def style_and_script() -> tuple[str, str]:
    """Style and script of the report."""
    names = ("active_calibration.js", "wording.js", "histogram.js", "stage.js", "files.js", "page.js")
    return style_of("report"), "\n".join([shared_script(), *map(package_text, names)])


def content_policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: only its pictures and files beside it, and only its own script."""
    return (
        "default-src 'none'; img-src data: 'self' file:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'"
    )


def digest(text: str) -> str:
    """SHA-256 of a text in base64."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
