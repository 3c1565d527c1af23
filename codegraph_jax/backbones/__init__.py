"""Vision transformers and their weights, `load_backbone(BackboneConfig)`, and the interface of other backbones."""

from codegraph_jax.backbones.errors import BackboneError as BackboneError
from codegraph_jax.backbones.loading import as_loaded as as_loaded
from codegraph_jax.backbones.loading import backbone_named as backbone_named
from codegraph_jax.backbones.loading import settings_and_backbone as settings_and_backbone
from codegraph_jax.backbones.precomputed import PrecomputedBackbone as PrecomputedBackbone
from codegraph_jax.backbones.preset_backbone import PresetBackbone as PresetBackbone
from codegraph_jax.backbones.preset_backbone import feature_identity as feature_identity
from codegraph_jax.backbones.preset_backbone import load_backbone as load_backbone
from codegraph_jax.backbones.preset_backbone import weights_identity as weights_identity
from codegraph_jax.backbones.presets import PRESETS as PRESETS
from codegraph_jax.backbones.presets import is_preset as is_preset
from codegraph_jax.backbones.protocol import Backbone as Backbone
from codegraph_jax.backbones.protocol import LoadedBackbone as LoadedBackbone
