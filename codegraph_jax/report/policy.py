"""The Content-Security-Policy of the report, and the parts of its page; imports no JAX."""

import base64
import hashlib
from importlib.resources import files

PARTS = ("page.css", "active_calibration.js", "page.js")
"""Style and scripts of the report."""


def content_policy(style: str, *scripts: str) -> str:
    """The Content-Security-Policy: only pictures of the report and files beside it, and only the report's scripts."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data: 'self' file:",
            f"style-src 'sha256-{digest(style)}'",
            "script-src " + " ".join(f"'sha256-{digest(script)}'" for script in scripts),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def package_text(name: str) -> str:
    """A text file of this package."""
    return files("codegraph_jax.report").joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """SHA-256 of a text in base64."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
