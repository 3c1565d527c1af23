"""A loaded backbone: preset, model and weights."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from codegraph_jax.backbones.assembly import assemble, random_parameters, with_grid_of
from codegraph_jax.backbones.attention import fastest_route
from codegraph_jax.backbones.checkpoints import Checkpoint, at_hand, find_checkpoint
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.presets import PRESETS, Preset, preset_of, with_preset
from codegraph_jax.backbones.vit import ACTIVATIONS, Architecture, VisionTransformer
from codegraph_jax.config import BackboneConfig, Config, DataConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import OVERLAP
from codegraph_jax.data.value_range import given_range

RANDOM_SEED = 0
RANDOM_NUMBERS = "random numbers"
"""Beginning of `Backbone.weights` for random parameters."""
SHA256 = re.compile(r"sha256 ([0-9a-f]{64})")


@dataclass(frozen=True)
class Backbone:
    """A vision transformer with its parameters, which do not count when backbones are compared.

    Attributes:
        preset: architecture and preprocessing.
        model: the Flax module.
        params: parameters of the module.
        weights: origin of the parameters with commit or hash, for the manifest.
        blocks: 0-based blocks whose outputs `apply` returns.
    """

    preset: Preset
    model: VisionTransformer
    params: Any = field(compare=False)
    weights: str
    blocks: tuple[int, ...]

    def apply(self, params: Any, images: Float[Array, "b s s 3"]) -> dict[str, Any]:
        """Features of normalised images: `blocks`, a list of [b, p, c], and `image` [b, d].

        A pure function. Parameters are an argument, so that a compiled program does not contain them as constants.
        """
        return self.model.apply({"params": params}, images)  # type: ignore[return-value]

    def flop(self, rows: int, columns: int) -> float:
        """Floating-point operations of all matrix products for one image of `rows` x `columns` patches."""
        a, patches = self.model.architecture, rows * columns
        tokens = a.special_tokens + patches
        inputs = 2 if a.activation == "swiglu" else 1
        block = tokens * (4 * a.width**2 + (1 + inputs) * a.width * a.mlp_width) + 2 * tokens**2 * a.width
        pooling = 3 * tokens * a.width**2 if a.pooling else 0
        return 2.0 * (a.depth * block + patches * 3 * a.patch_size**2 * a.width + pooling)


def weights_identity(weights: str) -> str:
    """The hash in `Backbone.weights`, which does not depend on the path of the file; without a hash, the whole text."""
    found = SHA256.search(weights)
    return found.group() if found else weights


def feature_identity(backbone: Backbone, config: BackboneConfig) -> dict[str, Any]:
    """Everything that patch tokens depend on except rounding; tokens with equal identity can be compared."""
    identity = {
        "weights": weights_identity(backbone.weights),
        "image_size": config.image_size,
        "blocks": list(backbone.blocks),
        "activation": config.activation,
        "position_offset": backbone.model.position_offset,
    }
    if not backbone.preset.discriminative:
        # the image feature, by which products are told apart, is that of the last block that runs
        identity |= {"depth": backbone.model.architecture.depth}
    if config.fit != "squeeze":
        identity |= {"fit": config.fit}
    if config.fit in ("tile", "auto"):
        identity |= {"scale": config.scale, "overlap": OVERLAP}
    return identity


def load_backbone(config: BackboneConfig, position_offset: float = 0.0) -> Backbone:
    """Checks the settings, and loads the weights onto the default device.

    `config.weights = "random"` gives random parameters, for tests and timing.

    Args:
        config: preset, weights, blocks, activation and type (`auto`, which a detector resolves, is float32 here).
        position_offset: see `resampling_matrix`.

    Raises:
        ConfigError: a setting is invalid, or the weights are missing or do not fit the preset.
    """
    preset = preset_of(config)
    _check_size(config.image_size or preset.image_size, preset)
    blocks = config.blocks or preset.blocks
    for block in blocks:
        if not 0 <= block < preset.depth:
            raise ConfigError(
                f"config.backbone.blocks: {block} is out of range, {preset.name} has blocks 0 to {preset.depth - 1}"
            )
    try:
        if config.weights == "random":
            architecture = _with_activation(preset, config, None)
            weights = f"{RANDOM_NUMBERS} (seed {RANDOM_SEED}) for {preset.name}, not trained: no result means anything"
            loaded = random_parameters(architecture, RANDOM_SEED)
        else:
            _with_activation(preset, config, None)  # check the settings before any network access
            instead = PRESETS.get(config.fallback)
            checkpoint = find_checkpoint(preset, config.weights, retry_hub=not (instead and at_hand(instead)))
            architecture = with_grid_of(preset, _with_activation(preset, config, checkpoint), checkpoint)
            loaded = assemble(preset, architecture, checkpoint)
            weights = checkpoint.origin
    except WeightsError as error:
        raise ConfigError(f"config.backbone.weights: {error}") from error
    if not preset.discriminative:
        # the image feature only separates mixed products, which does not justify the blocks after the last layer
        architecture = dataclasses.replace(architecture, depth=max(blocks) + 1)
        unused = {f"block_{i}" for i in range(architecture.depth, preset.depth)}
        loaded = {name: values for name, values in loaded.items() if name not in unused}
    dtype = jnp.dtype("float32" if config.dtype == "auto" else config.dtype)
    model = VisionTransformer(
        architecture, tuple(blocks), preset.final_norm, dtype, fastest_route(dtype), position_offset
    )
    return Backbone(preset, model, jax.tree_util.tree_map_with_path(_stored(dtype), loaded), weights, tuple(blocks))


def backbone_settings(
    config: Config | str | None, backbone: str | Backbone | None, fields: Mapping[str, Any]
) -> Config:
    """The settings of a detector, completed from a loaded backbone or from the preset.

    Args:
        config: settings, or the name of a backbone; None: the defaults, but unreadable images are errors, so that
            scores have the same indices as the images.
        backbone: name of a preset, or a loaded backbone.
        fields: further fields of `config.backbone`.

    Raises:
        ConfigError: an unknown field or preset, an invalid range, or a field that contradicts a loaded backbone.
    """
    if isinstance(config, str):
        config, backbone = None, backbone or config
    elif config is not None and not isinstance(config, Config):
        raise ConfigError(
            f"CoDeGraph: takes a Config or the name of a backbone, as CoDeGraph('dinov2-base'); got {config!r}"
        )
    settings = config or Config(data=DataConfig(unreadable="error"))
    stated, preset = dict(fields), None
    if isinstance(backbone, Backbone):
        own, preset = _loaded_with(backbone), backbone.preset
        if unfit := sorted(own.keys() & stated):
            raise ConfigError(f"config.backbone.{unfit[0]}: the given backbone has its own; leave it out")
        stated |= own
    elif backbone:
        stated["name"] = backbone
    try:
        settings = dataclasses.replace(settings, backbone=dataclasses.replace(settings.backbone, **stated))
    except TypeError as error:
        raise ConfigError(f"config.backbone: {error}") from None
    settings = with_preset(settings, preset)
    given_range(settings.data.range)
    if preset:
        _check_size(settings.backbone.image_size, preset)
    return settings


def _loaded_with(backbone: Backbone) -> dict[str, Any]:
    """The fields of `config.backbone` that are fixed by a loaded backbone."""
    model, own = backbone.model, backbone.model.architecture.activation
    return {
        "name": backbone.preset.name,
        "weights": "random" if backbone.weights.startswith(RANDOM_NUMBERS) else "",
        "blocks": backbone.blocks,
        "dtype": jnp.dtype(model.dtype).name,
        "activation": "checkpoint" if own == backbone.preset.architecture.activation else own,
    }


def _check_size(size: int, preset: Preset) -> None:
    patch = preset.patch_size
    if size % patch:
        near = [s for s in (size // patch * patch, math.ceil(size / patch) * patch) if s]
        raise ConfigError(
            f"config.backbone.image_size: {size} is not a multiple of the {patch} px patches of {preset.name}; "
            f"nearest: {' or '.join(map(str, near))}"
        )


def _with_activation(preset: Preset, config: BackboneConfig, checkpoint: Checkpoint | None) -> Architecture:
    """The preset's architecture with the activation from the settings or from the checkpoint's config.json."""
    own = preset.architecture.activation
    if config.activation != "checkpoint":
        if own == "swiglu":
            raise ConfigError(f"config.backbone.activation: {preset.name} has SwiGLU blocks; only 'checkpoint' works")
        return dataclasses.replace(preset.architecture, activation=config.activation)
    if checkpoint is None or own == "swiglu":
        return preset.architecture
    settings = checkpoint.settings.get("vision_config", checkpoint.settings)
    stated = settings.get("hidden_act", own) if isinstance(settings, dict) else own
    if not isinstance(stated, str) or stated not in ACTIVATIONS:
        raise WeightsError(f"{checkpoint.origin}: config.json states activation {stated!r}, which is not supported")
    return dataclasses.replace(preset.architecture, activation=stated)


def _stored(dtype: Any) -> Any:
    """Converts matrices to the type of the products, and all other parameters to float32."""

    def store(path: Any, leaf: Any) -> Array:
        name = path[-1].key
        in_float32 = name != "kernel" or path[0].key == "projection"
        return jnp.asarray(leaf, jnp.float32 if in_float32 else dtype)

    return store
