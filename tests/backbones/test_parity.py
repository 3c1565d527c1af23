"""Every architecture against PyTorch transformers, from golden files that make_golden.py made."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax.backbones.assembly import assemble
from codegraph_jax.backbones.safetensors_files import open_file
from codegraph_jax.backbones.vit import VisionTransformer
from tests.support.tiny_backbones import GOLDEN, PATCH, TIMM, TINY, drawn_image

pytestmark = pytest.mark.usefixtures("quick_compile")

SIZES = ((5, 5), (8, 7), (3, 4))


@functools.cache
def _params(name: str) -> dict[str, Any]:
    preset = (TINY | TIMM)[name]
    return assemble(preset, preset.architecture, open_file(GOLDEN / f"{name}.safetensors"))


def _features(name: str, rows: int, columns: int, **model: object) -> tuple[np.ndarray, np.ndarray]:
    preset = (TINY | TIMM)[name]
    vit = VisionTransformer(preset.architecture, preset.blocks, preset.final_norm, **model)  # type: ignore[arg-type]
    image = drawn_image(rows * PATCH, columns * PATCH)
    features = jax.jit(vit.apply)({"params": _params(name)}, jnp.asarray(np.stack([image, image[::-1]])))
    assert features["image"].dtype == jnp.float32
    assert all(block.dtype == jnp.float32 for block in features["blocks"])
    return np.stack([block[0] for block in features["blocks"]]), np.asarray(features["image"][0])


@pytest.mark.parametrize(("rows", "columns"), SIZES, ids=("native", "larger", "smaller"))
@pytest.mark.parametrize("name", TINY)
def test_blocks_and_image_feature_equal_transformers(name: str, rows: int, columns: int) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    blocks, image = _features(name, rows, columns)
    assert np.abs(blocks - golden[f"blocks_{rows}x{columns}"]).max() <= 1e-4
    assert np.abs(image - golden[f"image_{rows}x{columns}"]).max() <= 1e-4


@pytest.mark.parametrize("name", TIMM)
def test_files_of_timm_give_the_outputs_of_timm(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    for size in sorted(key.removeprefix("image_") for key in golden if key.startswith("image_")):
        blocks, image = _features(name, *map(int, size.split("x")))
        assert np.abs(blocks - golden[f"blocks_{size}"]).max() <= 1e-4
        assert np.abs(image - golden[f"image_{size}"]).max() <= 1e-4


@pytest.mark.parametrize("name", ["clip_gelu", "dinov2_swiglu_registers", "dinov3", "siglip"])
def test_attention_by_head_is_exact(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    blocks, image = _features(name, 8, 7, route="by_head")
    assert np.abs(blocks - golden["blocks_8x7"]).max() <= 1e-4
    assert np.abs(image - golden["image_8x7"]).max() <= 1e-4


@pytest.mark.parametrize("route", ["by_head", "batched"])
@pytest.mark.parametrize("name", ["clip_quick_gelu", "dinov2_swiglu", "dinov3", "siglip"])
def test_bfloat16_stays_close(name: str, route: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")["blocks_8x7"]
    blocks, _ = _features(name, 8, 7, dtype=jnp.bfloat16, route=route)
    errors = np.linalg.norm(blocks - golden, axis=-1) / np.linalg.norm(golden, axis=-1)
    assert 1e-5 < np.median(errors) < 0.02


def test_blocks_have_the_requested_order() -> None:
    preset = TINY["dinov2"]
    params = {"params": _params("dinov2")}
    image = jnp.asarray(drawn_image(20, 20))[None]
    forward = jax.jit(VisionTransformer(preset.architecture, (0, 2), True).apply)(params, image)["blocks"]
    backward = jax.jit(VisionTransformer(preset.architecture, (2, 0), True).apply)(params, image)["blocks"]
    assert np.array_equal(forward[0], backward[1])
    assert np.array_equal(forward[1], backward[0])


def test_images_of_a_batch_do_not_mix() -> None:
    preset = TINY["dinov2_registers"]
    params = {"params": _params("dinov2_registers")}
    images = jnp.asarray(np.stack([drawn_image(20, 20), -drawn_image(20, 20)]))
    for route in ("by_head", "batched"):
        vit = VisionTransformer(preset.architecture, (2,), True, route=route)  # type: ignore[arg-type]
        apply = jax.jit(vit.apply)
        together = apply(params, images)["blocks"][0]
        for i in range(2):
            alone = apply(params, images[i : i + 1])["blocks"][0]
            np.testing.assert_allclose(together[i], alone[0], atol=1e-5)
