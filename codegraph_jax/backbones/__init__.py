"""Vision transformers and their weights: `load_backbone(BackboneConfig) -> Backbone`."""

from codegraph_jax.backbones.backbone import (
    Backbone,
    feature_identity,
    load_backbone,
    settings_of,
    weights_identity,
)
from codegraph_jax.backbones.errors import CheckpointError
from codegraph_jax.backbones.presets import PRESETS, Preset

__all__ = [
    "PRESETS",
    "Backbone",
    "CheckpointError",
    "Preset",
    "feature_identity",
    "load_backbone",
    "settings_of",
    "weights_identity",
]
