"""The workdir of a training run: a manifest that pins what ran, and files that are whole or absent."""

import hashlib
import importlib.metadata
import json
import math
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codegraph_jax.core.files import whole_file
from codegraph_jax.core.workdir import WorkdirError

PACKAGES = ("codegraph-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


def write_whole(path: Path, content: str) -> None:
    """Writes a text file in one go: a reader sees the old content or the new, never a part."""
    with whole_file(path) as part:
        # file names need not be UTF-8; what is not shows as an escape
        Path(part).write_text(content, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON in one go; what is not finite becomes null, which is what JSON has for it."""
    write_whole(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def fingerprint(*arrays: np.ndarray | None) -> str:
    """SHA-256 over shapes and bytes, to tell whether a resumed run sees the same data."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(None if array is None else (array.shape, str(array.dtype))).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Versions and devices."""
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
    }


def require_same_run(workdir: Path, identity: dict[str, Any]) -> None:
    """Checks that the manifest of an earlier start, if there is one, describes the same run.

    Args:
        workdir: where `manifest.json` may lie.
        identity: what must agree, as JSON values: the config and the fingerprint of the data.

    Raises:
        WorkdirError: naming the first fields that differ.
    """
    path = workdir / "manifest.json"
    if not path.exists():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path}: cannot be read ({error}); choose another --workdir") from None
    old, new = _flat({key: stored.get(key) for key in identity}), _flat(json.loads(json.dumps(identity)))
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if differing:
        listed = ", ".join(f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in differing[:4])
        raise WorkdirError(f"{workdir}: holds a run with other settings or data ({listed}); choose another --workdir")


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: value
        for key, child in tree.items()
        for name, value in _flat(child, f"{prefix}.{key}" if prefix else key).items()
    }


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return None
    return tree
