"""Runs a detection with another backbone, such as an installed one if the requested weights are missing."""

from dataclasses import replace
from pathlib import Path

from codegraph_jax.backbones.errors import UnreachableError
from codegraph_jax.backbones.presets import PRESETS, Preset, preset_of
from codegraph_jax.config import Config, InputConfig
from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed import processes


def load_detector(config: Config) -> CoDeGraph:
    """The detector of a run, with `config.backbone.fallback` if the weights of `config.backbone.name` are missing.

    Raises:
        ConfigError: the weights of both are missing, or a setting is invalid.
    """
    fallback = config.backbone.fallback
    if fallback and fallback not in PRESETS:
        hint = did_you_mean(fallback, PRESETS, f"presets: {', '.join(PRESETS)}")
        raise ConfigError(f"config.backbone.fallback: unknown preset {fallback!r}; {hint}")
    try:
        return CoDeGraph(config)
    except ConfigError as error:
        missing = error.__cause__
        if not fallback or config.backbone.weights or not isinstance(missing, UnreachableError):
            raise
        size = input_size(config.backbone, PRESETS[fallback])
        network = replace(
            config.backbone, name=fallback, fallback="", image_size=size, blocks=(), activation="checkpoint"
        )
        try:
            detector = CoDeGraph(replace(config, backbone=network))
        except ConfigError as other:
            if isinstance(other.__cause__, UnreachableError):
                raise error from None
            raise
    if processes.is_first():
        asked, size = preset_of(config.backbone), detector.config.backbone.side
        # a directory of the user is never missing
        fetch = "" if isinstance(asked.source, Path) else f"\n  to download {asked.name}: {asked.source.command}"
        print(
            f"{asked.name} is not on this computer ({missing.reason}).\n  The smaller network {fallback} is used at "
            f"{size} px: faster, but less accurate on fine defects.{fetch}",
            flush=True,
        )
    return detector


def input_size(settings: InputConfig, preset: Preset) -> int:
    """The side of the network's input in pixels, rounded down to whole patches of the preset."""
    return max((settings.image_size or preset.image_size) // preset.patch_size, 1) * preset.patch_size
