"""Key names: the same weights under every convention give the same parameters."""

import re
from collections.abc import Callable

import jax
import ml_dtypes
import numpy as np
import pytest

from codegraph_jax.backbones.assembly import assemble, with_grid_of
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.safetensors_files import Checkpoint, open_file
from tests.support.tiny_backbones import GOLDEN, TIMM, TINY

Tensors = dict[str, np.ndarray]

CLIP_ORIGINAL = [
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
]
DINOV2_ORIGINAL = [
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.register_tokens", "register_tokens"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"encoder\.layer\.", "blocks."),
    (r"attention\.output\.dense", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    (r"mlp\.weights_in", "mlp.w12"),
    (r"mlp\.weights_out", "mlp.w3"),
]
DINOV3_ORIGINAL = [
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.register_tokens", "storage_tokens"),
    (r"embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^layer\.", "blocks."),
    (r"attention\.o_proj", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
]


def _golden(name: str) -> Tensors:
    return {key: read() for key, read in open_file(GOLDEN / f"{name}.safetensors").readers.items()}


def _rename(tensors: Tensors, rules: list[tuple[str, str]]) -> Tensors:
    renamed = {}
    for key, tensor in tensors.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed


def _fuse(tensors: Tensors, thirds: tuple[str, str, str], fused: Callable[[str], str]) -> Tensors:
    """Joins query, key and value, found by their infixes, into one tensor of the original repositories."""
    tensors = dict(tensors)
    for key in [key for key in tensors if thirds[0] in key]:
        parts = [tensors.pop(key.replace(thirds[0], third)) for third in thirds]
        tensors[fused(key)] = np.concatenate(parts)
    return tensors


def _clip_original(name: str) -> Tensors:
    tensors = _fuse(
        _golden(name),
        ("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
        lambda key: key.replace("self_attn.q_proj.", "attn.in_proj_"),
    )
    tensors = _rename(tensors, CLIP_ORIGINAL)
    tensors["visual.proj"] = tensors.pop("visual_projection.weight").T
    return tensors


def _dinov2_original(name: str) -> Tensors:
    infixes = tuple(f"attention.attention.{third}." for third in ("query", "key", "value"))
    tensors = _fuse(_golden(name), infixes, lambda key: key.replace(infixes[0], "attn.qkv."))  # type: ignore[arg-type]
    return _rename(tensors, DINOV2_ORIGINAL)


def _dinov3_original(name: str) -> Tensors:
    """Adds the bias of the keys, which the original stores and masks."""
    tensors = _golden(name)
    for i in range(3):
        place = f"layer.{i}.attention."
        weights = [tensors.pop(f"{place}{third}_proj.weight") for third in "qkv"]
        query, value = (tensors.pop(f"{place}{third}_proj.bias") for third in "qv")
        tensors[f"blocks.{i}.attn.qkv.weight"] = np.concatenate(weights)
        tensors[f"blocks.{i}.attn.qkv.bias"] = np.concatenate([query, np.full_like(query, 7), value])
        tensors[f"blocks.{i}.attn.qkv.bias_mask"] = np.repeat(np.array([1, 0, 1], np.float16), 32)
    mlp = [(r"mlp\.gate_proj", "mlp.w1"), (r"mlp\.up_proj", "mlp.w2"), (r"mlp\.down_proj", "mlp.w3")]
    if "gated" not in name:
        mlp = [(r"mlp\.up_proj", "mlp.fc1"), (r"mlp\.down_proj", "mlp.fc2")]
    return _rename(tensors, DINOV3_ORIGINAL + mlp) | {"rope_embed.periods": np.ones(4)}


def _in_memory_names(name: str) -> Tensors:
    tensors = _rename(
        _golden(name),
        [
            (r"attention\.attention\.query", "attention.q_proj"),
            (r"attention\.attention\.key", "attention.k_proj"),
            (r"attention\.attention\.value", "attention.v_proj"),
            (r"attention\.output\.dense", "attention.o_proj"),
            (r"mlp\.weights_out", "mlp.down_proj"),
        ],
    )
    for key in [key for key in tensors if "mlp.weights_in" in key]:
        gate, up = np.split(tensors.pop(key), 2)
        tensors |= {key.replace("weights_in", "gate_proj"): gate, key.replace("weights_in", "up_proj"): up}
    return tensors


def _assemble(name: str, tensors: Tensors) -> dict:
    checkpoint = Checkpoint({key: (lambda t=tensor: t) for key, tensor in tensors.items()}, "here")
    preset = (TINY | TIMM)[name]
    return assemble(preset, preset.architecture, checkpoint)


def _is_same(a: dict, b: dict) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


# files of other tools always have the projection
CLIPS = ["clip_quick_gelu", "clip_gelu"]
DINOV2S = [name for name in TINY if name.startswith("dinov2")]
DINOV3S = [name for name in TINY if name.startswith("dinov3")]


@pytest.mark.parametrize("name", CLIPS)
def test_openai_names(name: str) -> None:
    text = {
        "logit_scale": np.float32(0),
        "ln_final.weight": np.ones(3),
        "transformer.resblocks.0.ln_1.bias": np.ones(3),
    }
    text |= {"positional_embedding": np.ones((3, 3)), "token_embedding.weight": np.ones((3, 3))}
    assert _is_same(_assemble(name, _clip_original(name) | text), _assemble(name, _golden(name)))


@pytest.mark.parametrize("name", DINOV2S)
def test_facebook_names(name: str) -> None:
    assert _is_same(_assemble(name, _dinov2_original(name)), _assemble(name, _golden(name)))


@pytest.mark.parametrize("name", ["dinov2", "dinov2_swiglu_registers"])
def test_facebook_names_with_chunks(name: str) -> None:
    chunked = {re.sub(r"^blocks\.(\d+)", r"blocks.0.\1", key): t for key, t in _dinov2_original(name).items()}
    assert _is_same(_assemble(name, chunked), _assemble(name, _golden(name)))


@pytest.mark.parametrize("name", DINOV2S)
def test_names_that_transformers_5_has_in_memory(name: str) -> None:
    assert _is_same(_assemble(name, _in_memory_names(name)), _assemble(name, _golden(name)))


@pytest.mark.parametrize("name", DINOV3S)
def test_names_of_the_original_dinov3(name: str) -> None:
    assert _is_same(_assemble(name, _dinov3_original(name)), _assemble(name, _golden(name)))


@pytest.mark.parametrize("name", [*TINY, *TIMM])
@pytest.mark.parametrize("prefix", ["teacher.backbone.", "_orig_mod.module.model."])
def test_names_inside_a_larger_model(name: str, prefix: str) -> None:
    tensors = {prefix + key: tensor for key, tensor in _golden(name).items()}
    assert _is_same(_assemble(name, tensors), _assemble(name, _golden(name)))


@pytest.mark.parametrize("prefix", ["dinov2.", "dinov2_with_registers."])
def test_names_of_a_classifier_on_dinov2(prefix: str) -> None:
    tensors = {prefix + key: tensor for key, tensor in _golden("dinov2_registers").items()}
    assert _is_same(_assemble("dinov2_registers", tensors), _assemble("dinov2_registers", _golden("dinov2_registers")))


@pytest.mark.parametrize("name", ["timm_clip", "timm_siglip"])
def test_towers_of_timm_inside_open_clip(name: str) -> None:
    tensors = {f"visual.trunk.{key}": tensor for key, tensor in _golden(name).items()}
    tensors |= {
        "text.transformer.resblocks.0.ln_1.bias": np.ones(3),
        "logit_scale": np.ones(()),
        "logit_bias": np.ones(()),
    }
    assert _is_same(_assemble(name, tensors), _assemble(name, _golden(name)))


def test_the_bias_of_a_clip_head_must_be_zero() -> None:
    assert not _golden("timm_clip")["head.bias"].any()
    with pytest.raises(WeightsError, match=r"unused tensors: 'head\.bias'"):
        _assemble("timm_clip", _golden("timm_clip") | {"head.bias": np.ones(24)})


def test_only_timm_leaves_out_a_bias_that_is_zero() -> None:
    assert not _assemble("timm_dinov3_gated", _golden("timm_dinov3_gated"))["block_1"]["attention"]["qkv"]["bias"].any()
    tensors = {key: t for key, t in _golden("dinov3").items() if not key.endswith("q_proj.bias")}
    with pytest.raises(WeightsError, match=r"block_0/attention/qkv/bias \(part 1 of 3\)"):
        _assemble("dinov3", tensors)
    with pytest.raises(WeightsError, match="no tensor for"):
        _assemble("dinov3", {key: t for key, t in tensors.items() if not key.endswith("v_proj.bias")})


def test_heads_of_pretraining_may_be_left_over() -> None:
    tensors = {f"teacher.backbone.{key}": tensor for key, tensor in _golden("dinov3").items()}
    tensors |= {"teacher.dino_head.mlp.0.weight": np.ones((3, 3)), "teacher.ibot_head.last_layer.weight": np.ones(3)}
    assert _is_same(_assemble("dinov3", tensors), _assemble("dinov3", _golden("dinov3")))
    with pytest.raises(WeightsError, match=r"student\.backbone\.norm\.bias"):
        _assemble("dinov3", tensors | {"student.backbone.norm.bias": np.ones(32)})


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_types_of_files_are_read_into_float32(dtype: type) -> None:
    tensors = {key: tensor.astype(dtype) for key, tensor in _golden("siglip").items()}
    leaves = jax.tree.leaves(_assemble("siglip", tensors))
    assert all(leaf.dtype == np.float32 for leaf in leaves)
    exact = jax.tree.leaves(_assemble("siglip", _golden("siglip")))
    assert all(np.abs(a - b).max() <= 2**-7 * np.abs(b).max() for a, b in zip(leaves, exact, strict=True))


@pytest.mark.parametrize("name", ["clip_gelu", "dinov2", "timm_dinov2_registers", "siglip"])
def test_the_grid_of_positions_is_the_checkpoints(name: str) -> None:
    """A file of a network that was trained at another image size differs only in its grid."""
    preset, tensors = (TINY | TIMM)[name], _golden(name)
    [key] = [key for key in tensors if "pos_embed" in key or "position_embedding" in key]
    positions = tensors[key].reshape(-1, 32)
    first = len(positions) - 25
    grown = np.concatenate([positions[:first], np.repeat(positions[first:], 2, axis=0)[:49]])
    tensors[key] = grown.reshape(*tensors[key].shape[:-2], -1, 32)
    checkpoint = Checkpoint({key: (lambda t=tensor: t) for key, tensor in tensors.items()}, "here")
    architecture = with_grid_of(preset.architecture, checkpoint)
    assert architecture.grid == 7
    assert assemble(preset, architecture, checkpoint)["positions"].shape[0] == 49 + preset.architecture.class_token


def test_weights_of_another_family_are_named() -> None:
    for name, other, called in (
        ("dinov3", "dinov2", "its tensors are those of DINOv2, not of DINOv3"),
        ("dinov2", "timm_siglip", "its tensors are those of SigLIP, not of DINOv2"),
        ("siglip", "clip_gelu", "its tensors are those of CLIP, not of SigLIP"),
        ("clip_gelu", "timm_dinov3", "its tensors are those of DINOv3, not of CLIP"),
    ):
        with pytest.raises(WeightsError, match=called):
            _assemble(name, _golden(other))


def test_clip_without_its_prefix_and_with_its_text_tower() -> None:
    tensors = {key.removeprefix("vision_model."): tensor for key, tensor in _golden("clip_gelu").items()}
    tensors |= {"text_model.final_layer_norm.bias": np.ones(3), "text_projection.weight": np.ones((3, 3))}
    tensors |= {"logit_scale": np.float32(1), "embeddings.position_ids": np.arange(26)[None]}
    assert _is_same(_assemble("clip_gelu", tensors), _assemble("clip_gelu", _golden("clip_gelu")))


def test_every_parameter_is_needed() -> None:
    tensors = _golden("dinov2_registers")
    for key in tensors:
        if key == "embeddings.mask_token" or re.search(r"layer\.[12]\.", key):
            continue
        with pytest.raises(WeightsError, match="no tensor for"):
            _assemble("dinov2_registers", {k: t for k, t in tensors.items() if k != key})


def test_a_third_of_the_query_key_value_product_that_is_missing_is_named() -> None:
    tensors = _golden("dinov2")
    del tensors["encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(WeightsError, match=r"block_1/attention/qkv/kernel \(part 2 of 3\)"):
        _assemble("dinov2", tensors)


@pytest.mark.parametrize("key", ["classifier.weight", "encoder.layer.3.norm1.bias", "text_model.x", "embeddings.extra"])
def test_unused_tensors_are_named_in_the_error(key: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(key)):
        _assemble("dinov2", _golden("dinov2") | {key: np.ones(32)})


def test_a_wrong_shape_is_named() -> None:
    tensors = _golden("dinov2") | {"encoder.layer.2.mlp.fc1.weight": np.ones((60, 32))}
    with pytest.raises(WeightsError, match=r"encoder\.layer\.2\.mlp\.fc1\.weight.*\(32, 60\).*needs \(32, 64\)"):
        _assemble("dinov2", tensors)


def test_two_names_for_one_parameter_are_an_error() -> None:
    tensors = _golden("dinov2")
    tensors["dinov2.layernorm.bias"] = tensors["layernorm.bias"]
    with pytest.raises(WeightsError, match=r"layernorm\.bias.*fill the same parameter"):
        _assemble("dinov2", tensors)


def test_another_model_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegraph_jax.backbones.assembly.PRESETS", {p.name: p for p in TINY.values()})
    with pytest.raises(WeightsError, match="it looks like tiny dinov2-small-registers"):
        _assemble("dinov2", _golden("dinov2_registers"))
    with pytest.raises(WeightsError, match="it looks like tiny dinov2-giant"):
        _assemble("clip_gelu", _golden("dinov2_swiglu"))


def test_the_error_for_an_unknown_file_lists_its_names() -> None:
    with pytest.raises(WeightsError, match=r"'conv1\.bias'.*none is the name of a tensor of CLIP"):
        _assemble("dinov2", {"conv1.bias": np.ones(3)})
