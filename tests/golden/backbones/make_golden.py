"""Makes the golden files of the backbones: small random models of PyTorch transformers, and what they return.

Needs torch, transformers and safetensors; the tests that read the files need none of them but safetensors.
Made with torch 2.14.1 and transformers 5.23.0:

    python tests/golden/backbones/make_golden.py

For each model: NAME.safetensors (weights, float16, under the hub's names) and NAME.npz with, for each
size "HxW" in patches, `blocks_HxW` [3, p, c] (patch tokens after each block, the last norm applied for DINOv2) and
`image_HxW` [d] (CLIP: projected class token of length 1; DINOv2: normed class token). Grid 5x5 is the learned one.
positions.npz: see `position_weights`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

FOLDER = Path(__file__).parent
PATCH, GRID = 4, 5
SIZES = ((5, 5), (8, 7), (3, 4))
COMMON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": PATCH}
CLIP = COMMON | {"image_size": PATCH * GRID, "intermediate_size": 64, "projection_dim": 24}
DINOV2 = COMMON | {"image_size": PATCH * GRID, "mlp_ratio": 2}


def models() -> dict[str, torch.nn.Module]:
    return {
        "clip_quick_gelu": CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_act="quick_gelu", **CLIP)),
        "clip_gelu": CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_act="gelu", **CLIP)),
        "dinov2": Dinov2Model(Dinov2Config(**DINOV2)),
        "dinov2_swiglu": Dinov2Model(Dinov2Config(use_swiglu_ffn=True, **DINOV2)),
        "dinov2_registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINOV2)),
        "dinov2_swiglu_registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(use_swiglu_ffn=True, **DINOV2)),
    }


def drawn_image(height: int, width: int) -> np.ndarray:
    """An image [h, w, 3] with detail at every scale, the same on every machine."""
    return np.sin(0.37 * np.arange(height * width * 3) ** 1.1).astype(np.float32).reshape(height, width, 3)


def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Every parameter random and of a size that matters, exactly representable in float16."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scaling = parameter.ndim == 1 and ("norm" in name or "lambda" in name) and not name.endswith("bias")
        matrix = parameter.ndim == 2 and "position" not in name
        value = 1 + 0.3 * noise if scaling else noise * (parameter.shape[-1] ** -0.5 if matrix else 0.3)
        parameter.data = value.half().float()


def outputs(model: torch.nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.inference_mode():
        if isinstance(model, CLIPVisionModelWithProjection):
            result = model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
            blocks = [hidden[0, 1:] for hidden in result.hidden_states[1:]]
            feature = result.image_embeds[0] / result.image_embeds[0].norm()
        else:
            result = model(pixels, output_hidden_states=True)
            special = 1 + getattr(model.config, "num_register_tokens", 0)
            blocks = [model.layernorm(hidden)[0, special:] for hidden in result.hidden_states[1:]]
            feature = result.last_hidden_state[0, 0]
    return torch.stack(blocks).numpy(), feature.numpy()


def main() -> None:
    for seed, (name, model) in enumerate(models().items()):
        draw_weights(model.eval(), seed)
        with TemporaryDirectory() as folder:
            # writes the names that the hub's files have, which differ from those in memory
            model.save_pretrained(folder)
            state = load_file(Path(folder) / "model.safetensors")
        save_file({key: tensor.half() for key, tensor in state.items()}, FOLDER / f"{name}.safetensors")
        arrays = {}
        for rows, columns in SIZES:
            blocks, feature = outputs(model, drawn_image(rows * PATCH, columns * PATCH))
            arrays |= {f"blocks_{rows}x{columns}": blocks, f"image_{rows}x{columns}": feature}
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
    np.savez_compressed(FOLDER / "positions.npz", **position_weights())


def position_weights() -> dict[str, np.ndarray]:
    """What torch's bicubic interpolation weighs along one axis, with the scale as DINOv2's original code passes it."""
    arrays = {}
    impulses = torch.eye(GRID)[None, :, :, None]
    for target in (8, 3):
        for offset in (0.0, 0.1):
            scale = ((target + offset) / GRID, 1.0)
            weights = torch.nn.functional.interpolate(impulses, scale_factor=scale, mode="bicubic", align_corners=False)
            arrays[f"to_{target}_offset_{offset}"] = weights[0, :, :, 0].T.numpy()
    return arrays


if __name__ == "__main__":
    main()
