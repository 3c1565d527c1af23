"""Loads the backbone of a detector from a preset, an import path or an object, and completes the settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from numpy.typing import DTypeLike

from codegraph_jax.backbones.precomputed import PRECOMPUTED, PrecomputedBackbone
from codegraph_jax.backbones.preset_backbone import load_backbone
from codegraph_jax.backbones.presets import HF, Preset, check_size, preset_of
from codegraph_jax.backbones.protocol import Backbone, LoadedBackbone
from codegraph_jax.backbones.user_backbone import UserBackbone, imported_backbone
from codegraph_jax.config import BackboneConfig, Config, DataConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.user_code import is_user_code


def as_loaded(backbone: Backbone, image_size: int | None = None) -> LoadedBackbone:
    """A backbone as the package uses it; the package's own ones are returned unchanged.

    `image_size` is the side of the input in pixels on which it is tried; None: its default.
    """
    if isinstance(backbone, LoadedBackbone):
        return backbone
    return UserBackbone.of(backbone, image_size or 0)


def backbone_named(config: BackboneConfig, dtype: DTypeLike) -> LoadedBackbone:
    """The loaded backbone that the settings name; a preset computes in `dtype`.

    Raises:
        ConfigError: there is none of this name, or its weights cannot be used.
    """
    return _user_backbone(None, config) or load_backbone(config, dtype)


def settings_and_backbone(
    config: Config | None, backbone: str | Backbone | None, fields: Mapping[str, Any]
) -> tuple[Config, LoadedBackbone | None]:
    """The settings of a detector, completed from its backbone; and the backbone, unless it is a preset to be loaded.

    Args:
        config: settings; None: the defaults, but unreadable images are errors, so that scores have the same indices as
            the images.
        backbone: a name as in `config.backbone.name`, or a backbone.
        fields: further fields of `config.backbone`.

    Raises:
        ConfigError: an unknown field or preset, an invalid range, or a field that contradicts the given backbone.
        BackboneError: the output of the backbone has a wrong form.
    """
    if config is not None and not isinstance(config, Config):
        raise ConfigError(
            f"CoDeGraph: takes a Config, got {config!r}; for a backbone write CoDeGraph(backbone='dinov2-base')"
        )
    settings = config or Config(data=DataConfig(unreadable="error"))
    if isinstance(backbone, str):
        fields, backbone = {**fields, "name": backbone}, None
    try:
        chosen = dataclasses.replace(settings.backbone, **fields)
    except TypeError as error:
        raise ConfigError(f"config.backbone: {error}") from None
    if chosen.name == PRECOMPUTED:
        return dataclasses.replace(settings, backbone=chosen), PrecomputedBackbone.of()
    loaded = _user_backbone(backbone, chosen)
    if loaded is not None:
        chosen = _fixed(chosen, loaded, fields, name_in_config=backbone is None)
    traits = loaded or preset_of(chosen)
    if chosen.name.startswith(HF):
        # with the commit, so that the manifest and banks name what was used
        chosen = dataclasses.replace(chosen, name=traits.name)
    settings = with_defaults(dataclasses.replace(settings, backbone=chosen), traits)
    if loaded is not None:
        check_size(settings.backbone.side, loaded.patch_size, loaded.name)
    return settings, loaded


def _user_backbone(backbone: Backbone | None, config: BackboneConfig) -> LoadedBackbone | None:
    """A backbone of the user, from an object or an import path; None for a preset."""
    if backbone is None and is_user_code(config.name) and not config.name.startswith(HF):
        backbone = imported_backbone(config.name)
    return None if backbone is None else as_loaded(backbone, config.image_size)


def _fixed(
    config: BackboneConfig, loaded: LoadedBackbone, fields: Mapping[str, Any], name_in_config: bool
) -> BackboneConfig:
    """Overrides the settings that the backbone determines.

    If the settings name the backbone (`name_in_config`), other settings must not contradict it; otherwise the caller's
    `fields` must not.
    """
    fixed = dict(loaded.fixed_settings)
    if name_in_config:
        del fixed["name"]
        refused = [name for name, value in fixed.items() if getattr(config, name) not in (value, "", ())]
    else:
        refused = [name for name in fixed if name in fields]
    if refused:
        raise ConfigError(f"config.backbone.{min(refused)}: the given backbone has its own; leave it out")
    return dataclasses.replace(config, **fixed)


def with_defaults(config: Config, backbone: LoadedBackbone | Preset) -> Config:
    """The settings with the backbone's image size and its choice of re-scoring, where they are not set."""
    rescore = backbone.discriminative if config.scoring.rescore is None else config.scoring.rescore
    size = config.backbone.image_size or backbone.image_size
    return dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, image_size=size),
        scoring=dataclasses.replace(config.scoring, rescore=rescore),
    )
