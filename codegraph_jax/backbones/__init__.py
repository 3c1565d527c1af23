"""Vision transformers and their weights: `load_backbone(BackboneConfig) -> Backbone`."""

from codegraph_jax.backbones.backbone import (
    Backbone,
    backbone_settings,
    feature_identity,
    load_backbone,
    weights_identity,
)
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.presets import PRESETS, Preset

__all__ = [
    "PRESETS",
    "Backbone",
    "WeightsError",
    "Preset",
    "feature_identity",
    "load_backbone",
    "backbone_settings",
    "weights_identity",
]
