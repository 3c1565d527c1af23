"""Finds weights: on the hub, in a directory, a file, or an installed package."""

from pathlib import Path

from codegraph_jax.backbones.errors import UnreachableError, WeightsError
from codegraph_jax.backbones.hub import HUB_ID, in_cache, open_hub
from codegraph_jax.backbones.presets import HubSource, PackageSource, Preset
from codegraph_jax.backbones.safetensors_files import CONVERT, PICKLES, Checkpoint, open_directory, open_file


def find_checkpoint(preset: Preset, weights: str = "") -> Checkpoint:
    """Opens the weights of `preset`.

    Args:
        preset: preset whose source is opened if `weights` is empty.
        weights: a directory, a .safetensors file (or the .index.json of a sharded one), or a Hugging Face id,
            optionally followed by `@` and a branch, tag or commit.

    Raises:
        UnreachableError: the source of the preset, or the repository on the hub, is not available.
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
            return open_hub(source)
        if isinstance(source, PackageSource):
            # protobuf is imported only for such weights
            from codegraph_jax.backbones.onnx_reader import open_package

            return open_package(source)
        return open_directory(source)
    except UnreachableError as error:
        raise UnreachableError(f"no weights for {preset.name}: {error}", error.reason) from None


def weights_are_installed(preset: Preset) -> bool:
    """True if a preset's weights are installed, or in the hub's cache at the preset's revision; needs no network."""
    source = preset.source
    if isinstance(source, HubSource):
        return any(in_cache(source, name) for name in (source.file, f"{source.file}.index.json"))
    return source.path is not None if isinstance(source, PackageSource) else source.is_dir()
