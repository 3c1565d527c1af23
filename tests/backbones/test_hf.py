"""Checkpoints of `transformers` with their configs: the same outputs, and errors for wrong ones."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import errors
from safetensors.numpy import load_file, save_file

from codegraph_jax import CoDeGraph
from codegraph_jax.backbones import load_backbone
from codegraph_jax.backbones.assembly import assemble
from codegraph_jax.backbones.hf import hf_preset
from codegraph_jax.backbones.presets import PRESETS, HubSource
from codegraph_jax.backbones.safetensors_files import open_file
from codegraph_jax.config import BackboneConfig, Config
from codegraph_jax.core.settings import ConfigError
from tests.support.processes import run_python
from tests.support.tiny_backbones import GOLDEN, GRID, PATCH, TINY, drawn_image

pytestmark = pytest.mark.usefixtures("quick_compile")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
COMMON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": PATCH}
LEARNED = COMMON | {"image_size": PATCH * GRID}
TOWER = LEARNED | {"intermediate_size": 64}
DINOV3 = COMMON | {"intermediate_size": 64, "num_register_tokens": 4}
PROCESSOR = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 3, "rescale_factor": 1 / 255}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip_quick_gelu": ("CLIPVisionConfig", TOWER | {"projection_dim": 24, "hidden_act": "quick_gelu"}),
    "clip_gelu": ("CLIPVisionConfig", TOWER | {"projection_dim": 24, "hidden_act": "gelu"}),
    "clip_unprojected": ("CLIPVisionConfig", TOWER | {"hidden_act": "quick_gelu"}),
    "dinov2": ("Dinov2Config", LEARNED | {"mlp_ratio": 2}),
    "dinov2_swiglu": ("Dinov2Config", LEARNED | {"mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2_registers": ("Dinov2WithRegistersConfig", LEARNED | {"mlp_ratio": 2}),
    "dinov2_swiglu_registers": ("Dinov2WithRegistersConfig", LEARNED | {"mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov3": ("DINOv3ViTConfig", DINOV3),
    "dinov3_gated": ("DINOv3ViTConfig", DINOV3 | {"use_gated_mlp": True, "hidden_act": "silu"}),
    "siglip": ("SiglipVisionConfig", TOWER),
    "siglip2": ("Siglip2VisionConfig", COMMON | {"intermediate_size": 64, "num_patches": GRID**2}),
}
"""The configs of the golden models, see make_golden.py."""
PROJECTED = ("clip_quick_gelu", "clip_gelu")


def written(folder: Path, name: str, nested: str = "", **changes: object) -> Path:
    """A checkpoint as `save_pretrained` writes it; `nested`: model_type of a model with a text tower."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    kind, values = CONFIGS[name]
    values = json.loads(getattr(transformers, kind)(**values).to_json_string(use_diff=False))
    if name.startswith("clip"):
        values["architectures"] = ["CLIPVisionModelWithProjection" if name in PROJECTED else "CLIPVisionModel"]
    if nested:
        values = {"model_type": nested, "vision_config": values, "text_config": {}, "projection_dim": 24}
    (folder / "config.json").write_text(json.dumps(values | changes))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    shutil.copy(GOLDEN / f"{name}.safetensors", folder / "model.safetensors")
    return folder


def loaded(folder: Path, **changes: Any) -> Any:
    return load_backbone(BackboneConfig(name=f"hf:{folder}", image_size=PATCH * GRID, **changes))


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_are_those_that_parity_was_tested_with(name: str, tmp_path: Path) -> None:
    """test_parity.py compares these networks with the outputs of `transformers`."""
    preset, backbone = TINY[name], loaded(written(tmp_path, name))
    assert backbone.model.architecture == preset.architecture
    assert (backbone.model.final_norm, backbone.blocks) == (preset.final_norm, preset.blocks)
    want = assemble(preset, preset.architecture, open_file(GOLDEN / f"{name}.safetensors"))
    assert jax.tree.structure(backbone.params) == jax.tree.structure(want)
    assert all(map(np.array_equal, jax.tree.leaves(backbone.params), jax.tree.leaves(want)))


@pytest.mark.parametrize("name", ["dinov2_swiglu_registers", "siglip2"])
def test_outputs_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    backbone = loaded(written(tmp_path, name))
    assert (backbone.mean, backbone.std, backbone.resample) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic")
    assert f"{tmp_path}/model.safetensors (sha256 " in backbone.weights_name
    layers, feature = jax.jit(lambda own, x: own(x))(backbone, jnp.asarray(drawn_image(8 * PATCH, 7 * PATCH))[None])
    assert np.abs(np.stack(layers)[:, 0] - golden["blocks_8x7"]).max() <= 1e-4
    assert np.abs(feature[0] - golden["image_8x7"]).max() <= 1e-4


@pytest.mark.parametrize(
    ("name", "nested"), [("clip_quick_gelu", "clip"), ("siglip", "siglip"), ("siglip2", "siglip2")]
)
def test_the_vision_tower_of_a_larger_model_is_the_same(name: str, nested: str, tmp_path: Path) -> None:
    alone, within = (hf_preset(f"hf:{written(tmp_path / own, name, own)}") for own in ("", nested))
    assert within.architecture == alone.architecture


@pytest.mark.parametrize(
    ("preset", "kind", "values"),
    [
        ("clip-vit-l14-336", "CLIPVisionConfig", {"hidden_size": 1024, "num_hidden_layers": 24, "projection_dim": 768}
         | {"intermediate_size": 4096, "num_attention_heads": 16, "patch_size": 14, "image_size": 336}),
        ("dinov2-giant", "Dinov2Config", {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24}
         | {"use_swiglu_ffn": True, "image_size": 518}),
        ("dinov3-huge-plus", "DINOv3ViTConfig", {"hidden_size": 1280, "num_hidden_layers": 32}
         | {"num_attention_heads": 20, "intermediate_size": 5120, "use_gated_mlp": True, "hidden_act": "silu"}
         | {"num_register_tokens": 4}),
        ("siglip2-so400m-16", "SiglipVisionConfig", {"hidden_size": 1152, "num_hidden_layers": 27, "image_size": 512}
         | {"intermediate_size": 4304, "num_attention_heads": 16}),
    ],
)  # fmt: skip
def test_a_preset_equals_the_description_of_its_config(
    preset: str, kind: str, values: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    written(tmp_path, "dinov2")
    config = json.loads(getattr(transformers, kind)(**values).to_json_string(use_diff=False))
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["CLIPVisionModelWithProjection"]}))
    found, known = hf_preset(f"hf:{tmp_path}"), PRESETS[preset]
    assert found.architecture == known.architecture
    assert (found.blocks, found.ignored, found.final_norm) == (known.blocks, known.ignored, known.final_norm)


def test_transformers_is_imported_for_such_a_name_alone() -> None:
    code = (
        "import sys\n"
        "from codegraph_jax import CoDeGraph\n"
        "from codegraph_jax.backbones.presets import PRESETS, preset_of\n"
        "from codegraph_jax.config import BackboneConfig\n"
        "for name in PRESETS: preset_of(BackboneConfig(name=name))\n"
        "assert 'transformers' not in sys.modules\n"
        "assert 'torch' not in sys.modules"
    )
    run_python("-c", code, status=0)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache with ORG/NAME, whose branch `main` is a known commit, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--ORG--NAME"
    written(folder / "snapshots" / COMMIT, "dinov2")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    hf_preset.cache_clear()
    return folder


def test_a_branch_becomes_the_commit_that_it_was(hub: Path) -> None:
    detector = CoDeGraph(Config(backbone=BackboneConfig(name="hf:ORG/NAME", image_size=20)))
    assert detector.config.backbone.name == f"hf:ORG/NAME@{COMMIT}"
    assert detector.backbone.weights_name == f"ORG/NAME@{COMMIT} (model.safetensors)"
    assert detector.backbone.preset.source == HubSource("ORG/NAME", COMMIT)
    (hub / "refs" / "main").write_text("f" * 40)
    # a bank and later runs load this commit, even if the branch has moved
    assert load_backbone(detector.config.backbone).weights_name == detector.backbone.weights_name


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError, "ORG/OTHER is gated: log in .* HF_TOKEN"),
        (errors.RepositoryNotFoundError, "ORG/OTHER is not on the hub, or private: check its name, or set HF_TOKEN"),
        (errors.RevisionNotFoundError, "ORG/OTHER has no branch, tag or commit 'v2'"),
        (errors.RemoteEntryNotFoundError, "ORG/OTHER@v2 has no config.json, so it is not a checkpoint of transformers"),
        (OSError, "ORG/OTHER@v2 cannot be fetched .* hf download ORG/OTHER --revision v2 --local-dir DIR .*=hf:DIR"),
    ],
)
def test_refused_downloads_state_the_reason(hub: Path, monkeypatch: Any, error: type[Exception], message: str) -> None:
    def refuse(*_: object, **__: object) -> Path:
        response = __import__("httpx").Response(403, request=__import__("httpx").Request("GET", "https://hub"))
        raise error("no") if error is OSError else error("no", response=response)  # type: ignore[call-arg]

    monkeypatch.setattr("codegraph_jax.backbones.hub._hub_file", refuse)
    monkeypatch.setattr("codegraph_jax.backbones.hub.why_unreachable", lambda: None)
    with pytest.raises(ConfigError, match=rf"config\.backbone\.name: {message}"):
        CoDeGraph(backbone="hf:ORG/OTHER@v2")


def test_without_a_network_and_a_cache_the_error_shows_the_manual_download(hub: Path) -> None:
    with pytest.raises(ConfigError, match=r"ORG/OTHER@main cannot be fetched \(HF_HUB_OFFLINE is set\).*hf download"):
        CoDeGraph(backbone="hf:ORG/OTHER")


def test_shards_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, "dinov2")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, parts = sorted(tensors), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    where = {name: parts[i % 2] for i, name in enumerate(names)}
    for part in parts:
        save_file({name: tensors[name] for name in names if where[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert loaded(folder).params["block_2"]["mlp"]["in"]["kernel"].shape == (32, 64)
    (folder / parts[1]).unlink()
    with pytest.raises(ConfigError, match=f"shard {parts[1]} is missing"):
        loaded(folder)


def test_every_tensor_must_fit(tmp_path: Path) -> None:
    folder = written(tmp_path, "dinov2")
    tensors = load_file(folder / "model.safetensors")
    first = next(name for name in tensors if "fc1.weight" in name)
    for changed, message in (
        ({name: values for name, values in tensors.items() if name != first}, "no tensor for 'block_0/mlp/in/kernel'"),
        (tensors | {"head.extra": np.zeros(3, np.float32)}, "unused tensors: 'head.extra'"),
        (tensors | {first: np.zeros((8, 32), np.float32)}, r"has shape \(32, 8\)"),
    ):
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(ConfigError, match=message):
            loaded(folder)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "dinov2")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"holds no \.safetensors file \(pytorch_model\.bin may run code"):
        loaded(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dinov2", {"model_type": "vit"}, "model_type 'vit' is not supported, only clip, siglip, .*docs/research.md"),
        ("dinov2", {"model_type": "beit"}, "model_type 'beit' is not supported"),
        ("dinov2", {"model_type": "dinov3_convnext"}, "model_type 'dinov3_convnext' is not supported"),
        ("dinov2", {"model_type": None}, "config.json states no model_type"),
        (
            "dinov2",
            {"auto_map": {"AutoConfig": "own.Config"}, "model_type": "own"},
            "model_type 'own' is not supported",
        ),
        ("dinov2", {"qkv_bias": False}, "qkv_bias is False, only True is supported"),
        ("dinov2", {"num_channels": 1}, "num_channels is 1, only 3 is supported"),
        ("dinov2", {"hidden_act": "relu"}, r"config\.json describes .*\(hidden_act 'relu', only gelu, "),
        ("dinov2", {"hidden_size": "wide"}, "config.json is not a config of dinov2"),
        ("dinov2", {"patch_size": [4, 4]}, r"config\.json describes .*\(patch_size \[4, 4\], only one whole"),
        ("dinov3_gated", {"hidden_act": "gelu"}, r"config\.json describes .*\(a gated MLP with hidden_act 'gelu'"),
        ("dinov3", {"mlp_bias": False}, "mlp_bias is False"),
        ("siglip", {"vision_use_head": False}, "vision_use_head is False"),
    ],
)
def test_unsupported_networks_are_refused(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"config\.backbone\.name: hf:{tmp_path}: {message}"):
        CoDeGraph(backbone=f"hf:{written(tmp_path, name, **changes)}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_mean": None}, "image_mean is None, not three numbers"),
        ({"image_std": [0.1, 0, 0.1]}, "image_std is .* above 0"),
        ({"resample": 1}, r"resample is 1; supported are 2 \(bilinear\) and 3 \(bicubic\)"),
        ({"do_rescale": False}, "only pixels that are divided by 255"),
        ({"rescale_factor": 1.0}, "only pixels that are divided by 255"),
    ],
)
def test_preprocessing_that_is_not_supported_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = written(tmp_path, "dinov2")
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | changes))
    with pytest.raises(ConfigError, match=rf"preprocessor_config\.json: {message}"):
        CoDeGraph(backbone=f"hf:{folder}")


def test_preprocessing_is_read_from_either_file(tmp_path: Path) -> None:
    folder = written(tmp_path, "dinov2")
    preset = hf_preset(f"hf:{folder}")
    hf_preset.cache_clear()
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has none of preprocessor_config\.json, processor_config\.json"):
        CoDeGraph(backbone=f"hf:{folder}")
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": PROCESSOR}))
    assert hf_preset(f"hf:{folder}") == preset
    hf_preset.cache_clear()
    (folder / "processor_config.json").write_text(json.dumps(PROCESSOR | {"do_normalize": False}))
    assert hf_preset(f"hf:{folder}") == dataclasses.replace(preset, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_damaged_files_are_named(content: str, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        folder = written(tmp_path, "dinov2")
        (folder / name).write_text(content)
        with pytest.raises(ConfigError, match=rf"{name} is not (a )?JSON"):
            CoDeGraph(backbone=f"hf:{folder}")


@pytest.mark.parametrize("name", ["x", "", "a/b/c", "/no/such/directory"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is neither a directory nor a Hugging Face id"):
        CoDeGraph(backbone=f"hf:{name}")


def test_a_directory_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json, so it is not a checkpoint of transformers"):
        CoDeGraph(backbone=f"hf:{tmp_path}")


def test_golden_models_are_all_covered() -> None:
    assert set(CONFIGS) == set(TINY)
