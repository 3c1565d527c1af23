"""Makes the golden files of the backbones: small random models of PyTorch transformers and timm, and their outputs.

Needs torch, transformers, timm and safetensors; the tests that read the files need none of them but safetensors.
Made with torch 2.14.1, transformers 5.23.0 (DINOv3 and SigLIP: 5.24.0) and timm 1.0.31 (siglip2 and clip_unprojected:
torch 2.13.0, transformers 5.24.0), all or those that are named:

    python tests/golden/backbones/make_golden.py [NAME ...]

For each model: NAME.safetensors (weights, float16, under the names of the files that people have) and NAME.npz with,
for each size "HxW" in patches, `blocks_HxW` [3, p, c] (patch tokens after each block, the last norm applied for DINOv2
and DINOv3) and `image_HxW` [d] (CLIP: projected class token of length 1; SigLIP: pooled patches of length 1; DINOv2 and
DINOv3 and CLIP without projection: normed class token). Grid 5x5 is the learned one; timm interpolates its positions in
a way of its own, so that its models are held against other sizes only where positions are rotary. positions.npz: see
`position_weights`.
"""

import json
import re
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timm
import timm.layers
import torch
from safetensors.torch import load_file, save_file
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

FOLDER = Path(__file__).parent
PATCH, GRID = 4, 5
SIZES = ((5, 5), (8, 7), (3, 4))
COMMON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": PATCH}
CLIP = COMMON | {"image_size": PATCH * GRID, "intermediate_size": 64, "projection_dim": 24}
DINOV2 = COMMON | {"image_size": PATCH * GRID, "mlp_ratio": 2}
DINOV3 = COMMON | {"intermediate_size": 64, "num_register_tokens": 4}
SIGLIP = COMMON | {"image_size": PATCH * GRID, "intermediate_size": 64}
SIGLIP2 = COMMON | {"num_patches": GRID**2, "intermediate_size": 64}
TIMM = {"img_size": PATCH * GRID, "patch_size": PATCH, "embed_dim": 32, "depth": 3, "num_heads": 2, "mlp_ratio": 2}
NORM = partial(timm.layers.LayerNorm, eps=1e-5)


def models() -> dict[str, torch.nn.Module]:
    return {
        "clip_quick_gelu": CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_act="quick_gelu", **CLIP)),
        "clip_gelu": CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_act="gelu", **CLIP)),
        "dinov2": Dinov2Model(Dinov2Config(**DINOV2)),
        "dinov2_swiglu": Dinov2Model(Dinov2Config(use_swiglu_ffn=True, **DINOV2)),
        "dinov2_registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINOV2)),
        "dinov2_swiglu_registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(use_swiglu_ffn=True, **DINOV2)),
        "dinov3": DINOv3ViTModel(DINOv3ViTConfig(**DINOV3)),
        "dinov3_gated": DINOv3ViTModel(DINOv3ViTConfig(use_gated_mlp=True, hidden_act="silu", **DINOV3)),
        "siglip": SiglipVisionModel(SiglipVisionConfig(**SIGLIP)),
        "timm_clip": VisionTransformer(
            **TIMM, num_classes=24, pre_norm=True, norm_layer=NORM, act_layer=timm.layers.QuickGELU
        ),
        "timm_dinov2_registers": VisionTransformer(
            **TIMM, num_classes=0, init_values=1.0, reg_tokens=4, no_embed_class=True
        ),
        "timm_dinov3": _timm_dinov3(qkv_bias=True),
        "timm_dinov3_gated": _timm_dinov3(swiglu_mlp=True, swiglu_align_to=8),
        "timm_siglip": VisionTransformer(
            **TIMM, num_classes=0, class_token=False, global_pool="map", act_layer=timm.layers.GELUTanh
        ),
        "siglip2": Siglip2VisionModel(Siglip2VisionConfig(**SIGLIP2)),
        "clip_unprojected": CLIPVisionModel(CLIPVisionConfig(hidden_act="quick_gelu", **CLIP)),
    }


def _timm_dinov3(**changes: int) -> Eva:
    rotary = {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True, "use_rot_pos_emb": True}
    options = {"qkv_bias": False, "init_values": 1.0, "num_reg_tokens": 4, "use_abs_pos_emb": False} | changes
    return Eva(**TIMM, **rotary, **options, num_classes=0, use_fc_norm=False, dynamic_img_size=True, norm_layer=NORM)


def drawn_image(height: int, width: int) -> np.ndarray:
    """An image [h, w, 3] with detail at every scale, the same on every machine."""
    return np.sin(0.37 * np.arange(height * width * 3) ** 1.1).astype(np.float32).reshape(height, width, 3)


def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Every parameter is random, has an effect on the output, and is exactly representable in float16."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scaling = parameter.ndim == 1 and any(word in name for word in ("norm", "lambda", "gamma"))
        scaling = scaling and not name.endswith("bias")
        matrix = parameter.ndim == 2 and "position" not in name
        value = 1 + 0.3 * noise if scaling else noise * (parameter.shape[-1] ** -0.5 if matrix else 0.3)
        # a head of timm's CLIP has a bias that is zero
        parameter.data = value.half().float() if name != "head.bias" else torch.zeros_like(value)


def outputs(model: torch.nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.inference_mode():
        if isinstance(model, CLIPVisionModelWithProjection):
            result = model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
            blocks = [hidden[0, 1:] for hidden in result.hidden_states[1:]]
            feature = result.image_embeds[0] / result.image_embeds[0].norm()
        elif isinstance(model, CLIPVisionModel):
            result = model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
            blocks = [hidden[0, 1:] for hidden in result.hidden_states[1:]]
            feature = result.pooler_output[0]
        elif isinstance(model, Siglip2VisionModel):
            result = model(*_patches(image), output_hidden_states=True)
            blocks = [hidden[0] for hidden in result.hidden_states[1:]]
            feature = result.pooler_output[0] / result.pooler_output[0].norm()
        elif isinstance(model, SiglipVisionModel):
            result = model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
            blocks = [hidden[0] for hidden in result.hidden_states[1:]]
            feature = result.pooler_output[0] / result.pooler_output[0].norm()
        elif isinstance(model, VisionTransformer | Eva):
            return _timm_outputs(model, pixels)
        elif isinstance(model, DINOv3ViTModel):
            result = model(pixels, output_hidden_states=True)
            blocks = [model.norm(hidden)[0, 5:] for hidden in result.hidden_states[1:]]
            feature = result.last_hidden_state[0, 0]
        else:
            result = model(pixels, output_hidden_states=True)
            special = 1 + getattr(model.config, "num_register_tokens", 0)
            blocks = [model.layernorm(hidden)[0, special:] for hidden in result.hidden_states[1:]]
            feature = result.last_hidden_state[0, 0]
    return torch.stack(blocks).numpy(), feature.numpy()


def _patches(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The inputs of SigLIP 2 NaFlex: the pixels of each patch, the mask of valid patches, and (rows, columns)."""
    rows, columns = (side // PATCH for side in image.shape[:2])
    cells = image.reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(1, rows * columns, -1)
    return torch.from_numpy(cells), torch.ones(1, rows * columns, dtype=torch.long), torch.tensor([[rows, columns]])


def _timm_outputs(model: torch.nn.Module, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    special = model.num_prefix_tokens
    final_norm = special == 5
    blocks = model.forward_intermediates(pixels, norm=final_norm, output_fmt="NLC", intermediates_only=True)
    tokens = model.forward_features(pixels)
    if final_norm:
        feature = tokens[0, 0]
    else:
        feature = model.forward_head(tokens)[0]
        feature = feature / feature.norm()
    return torch.stack([block[0] for block in blocks]).numpy(), feature.numpy()


def _state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    if isinstance(model, VisionTransformer | Eva):
        return model.state_dict()
    with TemporaryDirectory() as folder:
        # writes the names that the hub's files have, which differ from those in memory
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def main() -> None:
    for seed, (name, model) in enumerate(models().items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        draw_weights(model.eval(), seed)
        state = {key: tensor.half().contiguous().clone() for key, tensor in _state(model).items()}
        save_file(state, FOLDER / f"{name}.safetensors")
        arrays = {}
        for rows, columns in SIZES if not isinstance(model, VisionTransformer) else SIZES[:1]:
            blocks, feature = outputs(model, drawn_image(rows * PATCH, columns * PATCH))
            arrays |= {f"blocks_{rows}x{columns}": blocks, f"image_{rows}x{columns}": feature}
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
    if sys.argv[1:] in ([], ["shapes"]):
        (FOLDER / "shapes.json").write_text(json.dumps(full_shapes(), indent=0) + "\n")
    if not sys.argv[1:]:
        np.savez_compressed(FOLDER / "positions.npz", **position_weights())


FULL = {
    "clip-vit-b32": "vit_base_patch32_clip_224.openai",
    "clip-vit-b16": "vit_base_patch16_clip_224.openai",
    "clip-vit-l14": "vit_large_patch14_clip_224.openai",
    "clip-vit-l14-336": "vit_large_patch14_clip_336.openai",
    "dinov2-small": "vit_small_patch14_dinov2.lvd142m",
    "dinov2-base": "vit_base_patch14_dinov2.lvd142m",
    "dinov2-large": "vit_large_patch14_dinov2.lvd142m",
    "dinov2-giant": "vit_giant_patch14_dinov2.lvd142m",
    "dinov2-small-registers": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2-base-registers": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2-large-registers": "vit_large_patch14_reg4_dinov2.lvd142m",
    "dinov2-giant-registers": "vit_giant_patch14_reg4_dinov2.lvd142m",
    "dinov3-small": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3-small-plus": "vit_small_plus_patch16_dinov3.lvd1689m",
    "dinov3-base": "vit_base_patch16_dinov3_qkvb.lvd1689m",
    "dinov3-large": "vit_large_patch16_dinov3.lvd1689m",
    "dinov3-huge-plus": "vit_huge_plus_patch16_dinov3.lvd1689m",
    "siglip2-base": "vit_base_patch16_siglip_512.v2_webli",
    "siglip2-large": "vit_large_patch16_siglip_512.v2_webli",
    "siglip2-so400m-14": "vit_so400m_patch14_siglip_378.v2_webli",
    "siglip2-so400m-16": "vit_so400m_patch16_siglip_512.v2_webli",
}


def full_shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of all tensors of timm's networks of full size: of block 0 alone, with how many there are."""
    found = {}
    for preset, name in FULL.items():
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False)
        shapes = {k: list(v.shape) for k, v in model.state_dict().items() if not re.match(r"blocks\.[1-9]", k)}
        found[preset] = shapes | {"depth": [len(model.blocks)]}
    return found


def position_weights() -> dict[str, np.ndarray]:
    """Weights of torch's bicubic interpolation along one axis."""
    arrays = {}
    impulses = torch.eye(GRID)[None, :, :, None]
    for target in (8, 3):
        scale = (target / GRID, 1.0)
        weights = torch.nn.functional.interpolate(impulses, scale_factor=scale, mode="bicubic", align_corners=False)
        arrays[f"to_{target}"] = weights[0, :, :, 0].T.numpy()
    return arrays


if __name__ == "__main__":
    main()
