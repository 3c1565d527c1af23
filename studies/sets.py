"""Labelled sets of images on this computer, for the configs of studies."""

import os
from collections.abc import Sequence
from pathlib import Path


def existing_sets(names: Sequence[str]) -> tuple[str, ...]:
    """The directories of these names below CODEGRAPH_TEST_DATA that exist; none if the variable is not set."""
    root = os.environ.get("CODEGRAPH_TEST_DATA")
    directories = [Path(root) / name for name in names] if root else []
    return tuple(str(directory) for directory in directories if directory.is_dir())
