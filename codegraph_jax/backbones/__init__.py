"""Vision transformers and their weights, `load_backbone(BackboneConfig)`, and the interface of other backbones."""

from codegraph_jax.backbones.backbone import (
    PresetBackbone,
    feature_identity,
    load_backbone,
    weights_identity,
)
from codegraph_jax.backbones.choosing import as_loaded, backbone_named, backbone_settings
from codegraph_jax.backbones.errors import BackboneError, WeightsError
from codegraph_jax.backbones.precomputed import PRECOMPUTED, PrecomputedBackbone
from codegraph_jax.backbones.presets import PRESETS, Preset, is_preset
from codegraph_jax.backbones.protocol import Backbone, LoadedBackbone
from codegraph_jax.backbones.user_backbone import UserBackbone

__all__ = [
    "PRECOMPUTED",
    "PRESETS",
    "Backbone",
    "BackboneError",
    "WeightsError",
    "UserBackbone",
    "LoadedBackbone",
    "PrecomputedBackbone",
    "Preset",
    "PresetBackbone",
    "as_loaded",
    "backbone_named",
    "feature_identity",
    "is_preset",
    "load_backbone",
    "backbone_settings",
    "weights_identity",
]
