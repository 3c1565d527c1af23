"""Real images in the directory CODEGRAPH_TEST_DATA, which are not part of the project."""

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """The directory of a set, or another file, below CODEGRAPH_TEST_DATA; skips the test without it."""
    root = os.environ.get("CODEGRAPH_TEST_DATA", "")
    if not root or not (Path(root) / name).exists():
        pytest.skip(f"CODEGRAPH_TEST_DATA names no directory with {name}")
    return Path(root) / name
