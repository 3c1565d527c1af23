"""Presets for any checkpoint of `transformers` with a supported vision transformer: `hf:ORG/NAME` or `hf:DIRECTORY`.

The architecture comes from config.json, read by the config classes of `transformers`, which fill in defaults; mean,
standard deviation and resampling come from the settings of the image processor. PyTorch is not needed. `transformers`
is imported only here, and only for such a name.
"""

import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.hub import HUB_ID, SETTINGS_FILES, hub_settings
from codegraph_jax.backbones.presets import (
    CLIP_PARTS,
    HF,
    SIGLIP_PARTS,
    Colours,
    HubSource,
    Preset,
    WeightsSource,
    gated_width,
    preset_with_weights,
)
from codegraph_jax.backbones.vit import ACTIVATIONS, Architecture
from codegraph_jax.core.files import read_json
from codegraph_jax.data.images import RESAMPLE

FILTERS = {RESAMPLE[name]: name for name in ("bilinear", "bicubic")}
"""Names of the supported filters, by their numbers in the settings of an image processor."""


@lru_cache(maxsize=8)
def hf_preset(name: str) -> Preset:
    """The preset of a checkpoint of `transformers`; the name of its hub source contains the commit.

    Args:
        name: `hf:ORG/NAME`, optionally followed by `@` and a branch, tag or commit; or `hf:` and a directory with
            config.json, model.safetensors and preprocessor_config.json.

    Raises:
        WeightsError: there is no such checkpoint, or it is not a supported network.
    """
    identifier = name.removeprefix(HF)
    folder, match = Path(identifier).expanduser(), HUB_ID.fullmatch(identifier)
    source: WeightsSource
    if identifier and folder.is_dir():
        name, source = f"{HF}{folder.resolve()}", folder.resolve()
    elif match:
        repository = match["repository"]
        folder, commit = hub_settings(repository, match["revision"] or "main")
        name, source = f"{HF}{repository}@{commit}", HubSource(repository, commit)
    else:
        raise WeightsError(
            f"{identifier!r} is neither a directory nor a Hugging Face id (owner/name, owner/name@commit)"
        )
    return preset_with_weights(name, _architecture(folder, name), source, *_preprocessing(folder, name))


def _architecture(folder: Path, name: str) -> Architecture:
    """The architecture that config.json describes."""
    content = _read(folder / "config.json", name)
    kind = content.get("model_type")
    if not isinstance(kind, str):
        raise WeightsError(f"{name}: config.json states no model_type, so it is not a checkpoint of transformers")
    kind = kind.removesuffix("_vision_model")
    if kind not in KINDS:
        raise WeightsError(
            f"{name}: model_type {kind!r} is not supported, only {', '.join(KINDS)}; any network can be used as a "
            "backbone of your own (docs/research.md)"
        )
    vision = content.get("vision_config", content)
    config = _config(kind if kind.startswith("dino") else f"{kind}_vision_model", vision, name)
    for field, needed in REQUIRED.items():
        if getattr(config, field, needed) != needed:
            raise WeightsError(f"{name}: {field} is {getattr(config, field)!r}, only {needed!r} is supported")
    try:
        return KINDS[kind](config, content)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{name}: config.json describes no network that is supported ({error})") from None


def _config(kind: str, values: Any, name: str) -> Any:
    """A config of `transformers`, with its defaults."""
    # suppresses the warning that PyTorch is missing
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[kind].from_dict(dict(values))
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{name}: config.json is not a config of {kind} ({reason})") from None


REQUIRED = {
    "num_channels": 3,
    "qkv_bias": True,
    "query_bias": True,
    "value_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "vision_use_head": True,
}
"""Values that the networks here have."""


def _common_fields(config: Any, activation: str | None = None) -> dict[str, Any]:
    activation = activation or config.hidden_act
    if activation != "swiglu" and activation not in ACTIVATIONS:
        raise ValueError(f"hidden_act {activation!r}, only {', '.join(ACTIVATIONS)} are supported")
    return {
        "patch_size": _positive_int("patch_size", config.patch_size),
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "norm_epsilon": config.layer_norm_eps,
        "activation": activation,
    }


def _grid(config: Any) -> int:
    return _positive_int("image_size", config.image_size) // _positive_int("patch_size", config.patch_size)


def _positive_int(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{field} {value!r}, only one whole number is supported")
    return value


def _clip(config: Any, content: Mapping[str, Any]) -> Architecture:
    projected = "vision_config" in content or "CLIPVisionModelWithProjection" in (content.get("architectures") or ())
    return Architecture(
        **_common_fields(config),
        grid=_grid(config),
        mlp_width=config.intermediate_size,
        **CLIP_PARTS,
        # of a whole CLIP, the width is stated outside of the vision tower
        projection=content.get("projection_dim", config.projection_dim) if projected else 0,
    )


def _siglip(config: Any, content: Mapping[str, Any]) -> Architecture:
    naflex = config.model_type.startswith("siglip2")
    return Architecture(
        **_common_fields(config),
        grid=math.isqrt(_positive_int("num_patches", config.num_patches)) if naflex else _grid(config),
        mlp_width=config.intermediate_size,
        **SIGLIP_PARTS,
        interpolation="linear" if naflex else "cubic",
    )


def _dinov2(config: Any, content: Mapping[str, Any]) -> Architecture:
    hidden, registers = int(config.hidden_size * config.mlp_ratio), getattr(config, "num_register_tokens", 0)
    gated = config.use_swiglu_ffn
    return Architecture(
        **_common_fields(config, "swiglu" if gated else None),
        grid=_grid(config),
        mlp_width=gated_width(hidden) if gated else hidden,
        registers=registers,
        interpolation="antialiased" if config.model_type == "dinov2_with_registers" else "cubic",
    )


def _dinov3(config: Any, content: Mapping[str, Any]) -> Architecture:
    if config.use_gated_mlp and config.hidden_act != "silu":
        raise ValueError(f"a gated MLP with hidden_act {config.hidden_act!r}, only 'silu' is supported")
    return Architecture(
        **_common_fields(config, "swiglu" if config.use_gated_mlp else None),
        grid=0,
        mlp_width=config.intermediate_size,
        registers=config.num_register_tokens,
        rotary=float(config.rope_theta),
        key_bias=config.key_bias,
    )


KINDS: dict[str, Callable[[Any, Mapping[str, Any]], Architecture]] = {
    "clip": _clip,
    "siglip": _siglip,
    "siglip2": _siglip,
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "dinov3_vit": _dinov3,
}
"""The function that makes the architecture from a config, for each supported `model_type`."""


def _preprocessing(folder: Path, name: str) -> tuple[Colours, str]:
    """Mean, standard deviation and resampling filter of the image processor."""
    file = next((folder / option for option in SETTINGS_FILES if (folder / option).is_file()), None)
    if file is None:
        raise WeightsError(
            f"{name}: has none of {', '.join(SETTINGS_FILES)}, which state how images are prepared; save the image "
            "processor of the network into the directory"
        )
    values = _read(file, name)
    if isinstance(values.get("image_processor"), dict):
        values = values["image_processor"]
    if not values.get("do_rescale", True) or abs(values.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        raise WeightsError(f"{name}: {file.name}: only pixels that are divided by 255 are supported")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if values.get("do_normalize", True):
        mean, std = (_colours(values, field, f"{name}: {file.name}") for field in ("image_mean", "image_std"))
    number = values.get("resample")
    if number not in FILTERS:
        known = " and ".join(f"{int(key)} ({text})" for key, text in FILTERS.items())
        raise WeightsError(f"{name}: {file.name}: resample is {number!r}; supported are {known}")
    return (mean, std), FILTERS[number]


def _colours(values: Mapping[str, Any], field: str, where: str) -> tuple[float, float, float]:
    given = values.get(field)
    if isinstance(given, list) and len(given) == 3 and all(isinstance(value, int | float) for value in given):
        red, green, blue = map(float, given)
        if field == "image_mean" or min(red, green, blue) > 0:
            return red, green, blue
    above = " above 0" if field == "image_std" else ""
    raise WeightsError(f"{where}: {field} is {given!r}, not three numbers{above}")


def _read(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"{name}: has no {path.name}, so it is not a checkpoint of transformers")
    try:
        values = read_json(path)
    except (ValueError, OSError) as error:
        raise WeightsError(f"{name}: {path.name} is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{name}: {path.name} is not a JSON object")
    return values
