"""The architectures of the golden models, and presets for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from codegraph_jax.backbones.presets import PRESETS, Preset
from codegraph_jax.backbones.vit import Architecture
from codegraph_jax.config import BackboneConfig
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "backbones"
PATCH, GRID = 4, 5

_SHAPE = {"patch_size": PATCH, "width": 32, "depth": 3, "heads": 2, "grid": GRID, "mlp_width": 64}
_CLIP = {"patch_bias": False, "pre_norm": True, "layer_scale": False, "projection": 24, "norm_epsilon": 1e-5}
# two thirds of 64 hidden units, rounded up to a multiple of 8
_GATED = {"activation": "swiglu", "mlp_width": 48}
_REGISTERS = {"registers": 4, "interpolation": "antialiased"}
_DINOV3 = {"grid": 0, "registers": 4, "rotary": 100.0, "key_bias": False, "norm_epsilon": 1e-5}
_SIGLIP = {"activation": "gelu_pytorch_tanh", "class_token": False, "layer_scale": False, "pooling": True}


def _preset(base: str, **changes: object) -> Preset:
    architecture = Architecture(**(_SHAPE | changes))  # type: ignore[arg-type]
    return replace(PRESETS[base], name=f"tiny {base}", architecture=architecture, blocks=(0, 1, 2))


TINY = {
    "clip_quick_gelu": _preset("clip-vit-l14-336", activation="quick_gelu", **_CLIP),
    "clip_gelu": _preset("clip-vit-l14-336", activation="gelu", **_CLIP),
    "dinov2": _preset("dinov2-small"),
    "dinov2_swiglu": _preset("dinov2-giant", **_GATED),
    "dinov2_registers": _preset("dinov2-small-registers", **_REGISTERS),
    "dinov2_swiglu_registers": _preset("dinov2-giant-registers", **_REGISTERS, **_GATED),
    "dinov3": _preset("dinov3-small", **_DINOV3),
    "dinov3_gated": _preset("dinov3-small-plus", activation="swiglu", **_DINOV3),
    "siglip": _preset("siglip2-base", **_SIGLIP),
    "siglip2": replace(_preset("siglip2-base", interpolation="linear", **_SIGLIP), name="tiny siglip2 naflex"),
    "clip_unprojected": replace(
        _preset("clip-vit-l14-336", activation="quick_gelu", **(_CLIP | {"projection": 0})),
        name="tiny clip unprojected",
    ),
}
TIMM = {
    "timm_clip": TINY["clip_quick_gelu"],
    "timm_dinov2_registers": TINY["dinov2_registers"],
    "timm_dinov3": TINY["dinov3"],
    "timm_dinov3_gated": TINY["dinov3_gated"],
    "timm_siglip": TINY["siglip"],
}
"""The same networks from files that timm has written."""


@contextmanager
def tiny_presets() -> Iterator[None]:
    """The architectures as presets: `tiny-dinov2` and so on."""
    with pytest.MonkeyPatch.context() as patch:
        for name, preset in TINY.items():
            patch.setitem(PRESETS, f"tiny-{name}", preset)
        yield


def tiny_backbone(name: str = "dinov2", **changes: object) -> BackboneConfig:
    """A golden network on images of 20 px; needs the fixture `tiny_presets`."""
    values = {"name": f"tiny-{name}", "image_size": GRID * PATCH, "weights": str(GOLDEN / f"{name}.safetensors")}
    return BackboneConfig(**(values | changes))  # type: ignore[arg-type]


def drawn_image(height: int, width: int) -> np.ndarray:
    """The image that the golden outputs belong to (see make_golden.py)."""
    return np.sin(0.37 * np.arange(height * width * 3) ** 1.1).astype(np.float32).reshape(height, width, 3)
