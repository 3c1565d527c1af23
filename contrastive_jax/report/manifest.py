"""The manifest of a training run: settings, data, versions and devices."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.core import environment
from codegraph_jax.core.files import read_json
from codegraph_jax.core.json_fields import flattened
from codegraph_jax.core.workdir import WorkdirError
from contrastive_jax.config import OeclConfig
from contrastive_jax.report.result_files import MANIFEST

PACKAGES = (*environment.PACKAGES, "optax", "orbax-checkpoint")


def run_identity(config: OeclConfig, *arrays: np.ndarray | None) -> dict[str, Any]:
    """The settings, and a digest of the images: both must be the same when a run resumes."""
    return {"config": dataclasses.asdict(config), "data": _digest_of(*arrays)}


def _digest_of(*arrays: np.ndarray | None) -> str:
    """SHA-256 over shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(None if array is None else (array.shape, str(array.dtype))).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def versions_and_device() -> dict[str, Any]:
    """Versions of Python and packages, and the devices."""
    return {"versions": environment.package_versions(PACKAGES), "device": environment.device_summary()}


def require_same_run(workdir: Path, identity: dict[str, Any]) -> None:
    """Checks that the manifest of an earlier start, if there is one, describes the same run.

    Raises:
        WorkdirError: some fields differ; the message names the first ones.
    """
    path = workdir / MANIFEST
    if not path.exists():
        return
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path}: cannot be read ({error}); choose another --out") from None
    old, new = flattened({key: stored.get(key) for key in identity}), flattened(json.loads(json.dumps(identity)))
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if differing:
        listed = ", ".join(f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in differing[:4])
        raise WorkdirError(f"{workdir}: holds a run with other settings or data ({listed}); choose another --out")
