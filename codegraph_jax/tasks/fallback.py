"""A smaller network that is at hand takes over where the weights that were asked for cannot be had."""

from dataclasses import replace

from codegraph_jax.backbones.checkpoints import NoWeights
from codegraph_jax.backbones.presets import PRESETS
from codegraph_jax.config import Config
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.detector import CoDeGraph

LARGEST = 448
"""Side in pixels at which a smaller network is run at most: the size that it was measured at (BENCHMARKS.md)."""


def load_detector(config: Config, first: bool) -> CoDeGraph:
    """The detector of a run, with `config.backbone.fallback` where there are no weights of `config.backbone.name`.

    Args:
        config: of the run; the detector's own says what is used.
        first: whether this process says what it took.

    Raises:
        ConfigError: no weights of either, or settings that cannot work.
    """
    try:
        return CoDeGraph(config)
    except ConfigError as error:
        if not config.backbone.fallback or not isinstance(error.__cause__, NoWeights):
            raise
        if config.backbone.fallback not in PRESETS:
            raise ConfigError(f"config.backbone.fallback: unknown preset {config.backbone.fallback!r}") from None
        try:
            detector = CoDeGraph(substitute(config))
        except ConfigError as other:
            if isinstance(other.__cause__, NoWeights):
                raise error from None
            raise
    if first:
        asked, taken = PRESETS[config.backbone.name], detector.backbone.preset
        print(
            f"no weights of {asked.name} can be had: {taken.name} takes over, a smaller network that is installed "
            f"({taken.width} channels instead of {asked.width}, {detector.config.backbone.image_size} px)\n"
            "it is quicker, and finds fine defects less well; docs/troubleshooting.md says how to get the weights",
            flush=True,
        )
    return detector


def substitute(config: Config) -> Config:
    """The settings with the other preset, its own blocks, and what is known to serve it."""
    preset = PRESETS[config.backbone.fallback]
    size = min(config.backbone.image_size, LARGEST) // preset.patch_size * preset.patch_size
    backbone = replace(
        config.backbone, name=preset.name, fallback="", blocks=(), image_size=max(size, preset.patch_size),
        activation="checkpoint", position_offset=0.0,
    )  # fmt: skip
    rescore = config.scoring.rescore and preset.tells_images_apart
    return replace(config, backbone=backbone, scoring=replace(config.scoring, rescore=rescore))
