"""The package's own backbones: presets with their weights."""

import dataclasses
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from codegraph_jax.backbones.assembly import assemble, random_parameters, with_grid_of
from codegraph_jax.backbones.attention import fastest_route
from codegraph_jax.backbones.checkpoints import find_checkpoint
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.presets import Preset, check_size, preset_of
from codegraph_jax.backbones.protocol import LoadedBackbone
from codegraph_jax.backbones.safetensors_files import Checkpoint
from codegraph_jax.backbones.vit import ACTIVATIONS, Architecture, VisionTransformer
from codegraph_jax.config import BackboneConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import TILE_OVERLAP

RANDOM_SEED = 0
RANDOM_NUMBERS = "random numbers"
"""Beginning of `Backbone.weights_name` for random parameters."""
SHA256 = re.compile(r"sha256 ([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class PresetBackbone(LoadedBackbone):
    """A vision transformer with its parameters, which do not count when backbones are compared.

    A pytree, whose leaves are the parameters: a compiled program takes them as arguments.

    Attributes:
        preset: architecture and preprocessing.
        model: the Flax module.
        params: parameters of the module.
    """

    preset: Preset
    model: VisionTransformer
    params: Any = field(compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """See `LoadedBackbone`."""
        model = self.model
        return {
            "weights": weights_identity(self.weights_name),
            **dataclasses.asdict(model.architecture),
            "final_norm": model.final_norm,
            "dtype": str(jnp.dtype(model.dtype)),
        }

    @property
    def fixed_settings(self) -> dict[str, Any]:
        """See `LoadedBackbone`."""
        activation = self.model.architecture.activation
        return {
            "name": self.name,
            "weights": "random" if self.weights_name.startswith(RANDOM_NUMBERS) else "",
            "blocks": self.blocks,
            "activation": "checkpoint" if activation == self.preset.architecture.activation else activation,
        }

    def __call__(self, images: Float[Array, "n y x 3"]) -> tuple[list[Array], Array]:
        """The layers [n, p, c] and image features [n, d] of normalised images."""
        out: Any = self.model.apply({"params": self.params}, images)
        return out["blocks"], out["image"]

    def portable(self) -> "PresetBackbone":
        """See `LoadedBackbone`."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, route="portable"))

    def flop(self, rows: int, columns: int) -> float:
        """Floating-point operations of all matrix products for one image of `rows` x `columns` patches."""
        a, patches = self.model.architecture, rows * columns
        tokens = a.special_tokens + patches
        inputs = 2 if a.activation == "swiglu" else 1
        block = tokens * (4 * a.width**2 + (1 + inputs) * a.width * a.mlp_width) + 2 * tokens**2 * a.width
        pooling = 3 * tokens * a.width**2 if a.pooling else 0
        return 2.0 * (a.depth * block + patches * 3 * a.patch_size**2 * a.width + pooling)


FIELDS = [one.name for one in dataclasses.fields(PresetBackbone) if one.name != "params"]
jax.tree_util.register_dataclass(PresetBackbone, data_fields=["params"], meta_fields=FIELDS)


def weights_identity(weights_name: str) -> str:
    """The hash in `Backbone.weights_name`, which does not depend on the path of the file; without a hash, all of it."""
    found = SHA256.search(weights_name)
    return found.group() if found else weights_name


def feature_identity(backbone: LoadedBackbone, config: BackboneConfig) -> dict[str, Any]:
    """Everything that patch tokens depend on except rounding; tokens with equal identity can be compared."""
    identity = {name: value for name, value in backbone.identity.items() if name != "dtype"}
    identity |= {"image_size": config.image_size, "blocks": list(backbone.blocks)}
    if config.fit != "squeeze":
        identity |= {"fit": config.fit}
    if config.fit in ("tile", "auto"):
        identity |= {"scale": config.scale or 0.0, "overlap": TILE_OVERLAP}
    return identity


def load_backbone(config: BackboneConfig, dtype: DTypeLike = jnp.float32) -> PresetBackbone:
    """Checks the settings, and loads the weights onto the default device.

    `config.weights = "random"` gives random parameters, for tests and timing.

    Args:
        config: preset, weights, blocks and activation.
        dtype: type of activations and matrix products, float32 or bfloat16; sums and outputs are always float32.

    Raises:
        ConfigError: a setting is invalid, or the weights are missing or do not fit the preset.
    """
    preset = preset_of(config)
    check_size(config.image_size or preset.image_size, preset.patch_size, preset.name)
    blocks = config.blocks or preset.blocks
    for block in blocks:
        if not 0 <= block < preset.depth:
            raise ConfigError(
                f"config.backbone.blocks: {block} is out of range, {preset.name} has blocks 0 to {preset.depth - 1}"
            )
    # refuses wrong settings before any network access
    architecture = _with_activation(preset, config, None)
    try:
        if config.weights == "random":
            origin = f"{RANDOM_NUMBERS} (seed {RANDOM_SEED}) for {preset.name}, not trained: no result means anything"
            loaded = random_parameters(architecture, RANDOM_SEED)
        else:
            checkpoint = find_checkpoint(preset, config.weights)
            architecture = with_grid_of(_with_activation(preset, config, checkpoint), checkpoint)
            loaded = assemble(preset, architecture, checkpoint)
            origin = checkpoint.origin
    except WeightsError as error:
        raise ConfigError(f"config.backbone.weights: {error}") from error
    if not preset.discriminative:
        # the image feature only separates mixed products, which does not justify the blocks after the last layer
        architecture = dataclasses.replace(architecture, depth=max(blocks) + 1)
        unused = {f"block_{i}" for i in range(architecture.depth, preset.depth)}
        loaded = {name: values for name, values in loaded.items() if name not in unused}
    dtype = jnp.dtype(dtype)
    model = VisionTransformer(architecture, tuple(blocks), preset.final_norm, dtype, fastest_route(dtype))
    params = jax.tree_util.tree_map_with_path(partial(_stored, dtype), loaded)
    shared = ("name", "patch_size", "mean", "std", "resample", "image_size", "discriminative")
    return PresetBackbone(
        **{name: getattr(preset, name) for name in shared}, weights_name=origin, blocks=tuple(blocks),
        widths=(preset.width,) * len(blocks), preset=preset, model=model, params=params,
    )  # fmt: skip


def _with_activation(preset: Preset, config: BackboneConfig, checkpoint: Checkpoint | None) -> Architecture:
    """The preset's architecture with the activation from the settings or from the checkpoint's config.json."""
    preset_activation = preset.architecture.activation
    if config.activation != "checkpoint":
        if preset_activation == "swiglu":
            raise ConfigError(f"config.backbone.activation: {preset.name} has SwiGLU blocks; only 'checkpoint' works")
        return dataclasses.replace(preset.architecture, activation=config.activation)
    if checkpoint is None or preset_activation == "swiglu":
        return preset.architecture
    settings = checkpoint.settings.get("vision_config", checkpoint.settings)
    stated = settings.get("hidden_act", preset_activation) if isinstance(settings, dict) else preset_activation
    if not isinstance(stated, str) or stated not in ACTIVATIONS:
        raise WeightsError(f"{checkpoint.origin}: config.json states activation {stated!r}, which is not supported")
    return dataclasses.replace(preset.architecture, activation=stated)


def _stored(dtype: Any, path: Any, leaf: Any) -> Array:
    """A matrix in the type of the products, or any other parameter in float32."""
    in_float32 = path[-1].key != "kernel" or path[0].key == "projection"
    return jnp.asarray(leaf, jnp.float32 if in_float32 else dtype)
