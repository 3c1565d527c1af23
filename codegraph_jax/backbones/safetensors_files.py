"""Reads the tensors of .safetensors files by name, and the config.json beside them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.core.files import read_json
from codegraph_jax.core.tensors import READ_ERRORS

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
CONVERT = (
    "may run code when read: convert to .safetensors first, with safetensors.torch.save_file(state_dict, FILE) on a "
    "computer with torch"
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose tensors are read on demand.

    Attributes:
        readers: a function for each tensor that reads it, by name.
        origin: file or repository, with commit or hash, for messages and the manifest.
        settings: content of its config.json, if it has one.
    """

    readers: dict[str, Callable[[], np.ndarray]]
    origin: str
    settings: dict[str, Any] = field(default_factory=dict)


def open_file(path: Path) -> Checkpoint:
    """Opens a .safetensors file, or the shards that a .safetensors.index.json lists."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    files = shards(path) if path.name.endswith(".json") else [path]
    return Checkpoint(read_safetensors(files), f"{path} (sha256 {sha256(files)})", settings_beside(path.parent))


def open_directory(path: Path) -> Checkpoint:
    """Opens model.safetensors (or model.safetensors.index.json, or the only .safetensors file) of a directory."""
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (path / name).is_file():
            return open_file(path / name)
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return open_file(found[0])
    if found:
        raise WeightsError(f"{path}: several .safetensors files and no model.safetensors; name one of them")
    pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
    hint = f" ({', '.join(pickles)} {CONVERT})" if pickles else ""
    raise WeightsError(f"{path}: holds no .safetensors file{hint}")


def read_safetensors(files: Iterable[Path]) -> dict[str, Callable[[], np.ndarray]]:
    """A function for each tensor of some files that reads it, by name."""
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for file in files:
        try:
            handle = safe_open(file, framework="numpy")
            names = list(handle.keys())
        except READ_ERRORS as error:
            raise _damaged(file, error) from None
        for name in names:
            if name in readers:
                raise WeightsError(f"{file}: another shard also has the tensor {name!r}")
            readers[name] = partial(_read_tensor, handle, file, name)
    return readers


def _read_tensor(handle: Any, file: Path, name: str) -> np.ndarray:
    try:
        return handle.get_tensor(name)
    except READ_ERRORS as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{file}: cannot be read ({error}); it is damaged or incomplete; download it again")


def shards(index: Path, check: bool = True) -> list[Path]:
    """The files that a .safetensors.index.json lists; `check` also tests that they exist."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()), key=str)
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise WeightsError(f"{index}: is not an index of safetensors shards ({error})") from None
    for name in names:
        if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
            raise WeightsError(f"{index}: shard {name!r} is outside the directory")
        if check and not (index.parent / name).is_file():
            raise WeightsError(f"{index}: shard {name} is missing")
    return [index.parent / name for name in names]


def settings_beside(folder: Path) -> dict[str, Any]:
    """The content of config.json, or the activation in open_clip's own config file."""
    for name in ("config.json", "open_clip_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = read_json(path)
        except (ValueError, OSError) as error:
            raise WeightsError(f"{path}: is not JSON ({error})") from None
        if not isinstance(settings, dict):
            return {}
        model = settings.get("model_cfg")
        if name != "config.json" and isinstance(model, dict) and "timm_model_name" not in model.get("vision_cfg", ()):
            return {"hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu"}
        return settings
    return {}


def sha256(files: list[Path]) -> str:
    """The SHA-256 of the content of some files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
