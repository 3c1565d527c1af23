"""The baseline in plain PyTorch; imported only if torch is installed.

Distances: patches unfolded and pooled adaptively, then `torch.cdist` of each image to all others, in both directions.
Backbone: a pre-norm ViT with `scaled_dot_product_attention` and the parameters of our backbone; its float64 result is
the reference for errors.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from codegraph_jax.backbones import PresetBackbone
from codegraph_jax.backbones.positions import rotary_angles
from codegraph_jax.core.environment import usable_cores
from codegraph_jax.features.aggregation import LAYER_NORM_EPSILON


def use_all_cores() -> None:
    """Sets the number of threads to the number of usable cores."""
    torch.set_num_threads(usable_cores())


@torch.inference_mode()
def features(tokens: torch.Tensor, degree: int, side: int) -> torch.Tensor:
    """Unit vectors [n, p, c] of one degree from tokens [n, p, c], by unfolding neighbourhoods and adaptive pooling."""
    n, p, c = tokens.shape
    out = torch.empty_like(tokens)
    for i in range(n):
        image = tokens[i].T.reshape(1, c, side, side)
        image = F.layer_norm(image, image.shape[1:], eps=LAYER_NORM_EPSILON)
        patches = F.unfold(image, degree, padding=degree // 2)[0].T
        out[i] = F.adaptive_avg_pool1d(patches[:, None], c)[:, 0]
    return F.normalize(out, dim=-1)


@torch.inference_mode()
def mutual_scores(vectors: torch.Tensor, k: int) -> torch.Tensor:
    """Mean of the k smallest distances to the other images [n, p], from unit vectors [n, p, c]."""
    n, p, c = vectors.shape
    scores = torch.empty(n, p)
    for i in range(n):
        others = torch.cat([vectors[:i], vectors[i + 1 :]]).reshape(-1, c)
        nearest = torch.cdist(vectors[i], others).reshape(p, n - 1, p).min(dim=-1).values
        scores[i] = nearest.topk(k, dim=-1, largest=False).values.mean(dim=-1)
    return scores


class Vit:
    """A backbone of this project in PyTorch.

    Args:
        backbone: architecture, blocks and parameters.
        side: side of the grid of patches.
        dtype: type of parameters and activations.
    """

    def __init__(self, backbone: PresetBackbone, side: int, dtype: torch.dtype):
        self.backbone, self.a = backbone, backbone.model.architecture
        self.parameters = _as_tensors(backbone.params, dtype)
        self.positions, self.angles = torch.zeros((), dtype=dtype), torch.zeros(0, dtype=dtype)
        if self.a.rotary:
            angles = rotary_angles(side, side, self.a.width // self.a.heads, self.a.rotary)
            self.angles = torch.from_numpy(angles).to(dtype)
        else:
            learned = backbone.params["positions"][int(self.a.class_token) :]
            positions = backbone.model.apply({"params": backbone.params}, learned, side, side, method="_positions")
            self.positions = torch.from_numpy(np.array(positions)).to(dtype)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Patch tokens [b, p, c] of each block, from images [b, s, s, 3]."""
        a, parameters = self.a, self.parameters
        b, s, size = len(images), images.shape[1] // a.patch_size, a.patch_size
        cells = images.reshape(b, s, size, s, size, 3).permute(0, 1, 3, 2, 4, 5).reshape(b, s * s, -1)
        x = _dense(cells, parameters["patch"]) + self.positions
        first = parameters["registers"].expand(b, -1, -1) if a.registers else x[:, :0]
        if a.class_token:
            token = parameters["class_token"] + (0 if a.rotary else parameters["positions"][0])
            first = torch.cat([token.expand(b, 1, -1), first], dim=1)
        x = torch.cat([first, x], dim=1)
        if a.pre_norm:
            x = self._norm(x, parameters["pre_norm"])
        outputs = {}
        # only blocks are compared; the layers after the last one compute the image feature
        for i in range(a.depth):
            x = self._block(x, parameters[f"block_{i}"])
            outputs[i] = x[:, a.special_tokens :]
        chosen = [outputs[i] for i in self.backbone.blocks]
        return [self._norm(y, parameters["norm"]) for y in chosen] if self.backbone.preset.final_norm else chosen

    def _norm(self, x: torch.Tensor, parameters: Any) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], parameters["scale"], parameters["bias"], self.a.norm_epsilon)

    def _block(self, x: torch.Tensor, parameters: Any) -> torch.Tensor:
        b, t, c = x.shape
        qkv = _dense(self._norm(x, parameters["norm1"]), parameters["attention"]["qkv"])
        query, key, value = qkv.reshape(b, t, 3, self.a.heads, -1).permute(2, 0, 3, 1, 4)
        if self.a.rotary:
            query, key = self._rotated(query), self._rotated(key)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(b, t, c)
        x = x + _dense(mixed, parameters["attention"]["out"]) * parameters.get("scale1", 1.0)
        y = _dense(self._norm(x, parameters["norm2"]), parameters["mlp"]["in"])
        if self.a.activation == "swiglu":
            gate, linear = y.chunk(2, dim=-1)
            y = F.silu(gate) * linear
        elif self.a.activation == "quick_gelu":
            y = y * torch.sigmoid(1.702 * y)
        else:
            y = F.gelu(y, approximate="tanh" if self.a.activation == "gelu_pytorch_tanh" else "none")
        return x + _dense(y, parameters["mlp"]["out"]) * parameters.get("scale2", 1.0)

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        special = self.a.special_tokens
        patches = x[:, :, special:]
        first, second = patches.chunk(2, dim=-1)
        patches = patches * self.angles.cos() + torch.cat([-second, first], dim=-1) * self.angles.sin()
        return torch.cat([x[:, :, :special], patches], dim=2)


def _dense(x: torch.Tensor, parameters: Any) -> torch.Tensor:
    # kernels are stored transposed, as in torch
    return F.linear(x, parameters["kernel"], parameters.get("bias"))


def _as_tensors(tree: Any, dtype: torch.dtype) -> Any:
    def convert(name: str, value: Any) -> Any:
        if hasattr(value, "items"):
            return {k: convert(k, v) for k, v in value.items()}
        tensor = torch.from_numpy(np.array(value, np.float32)).to(dtype)
        return tensor.T.contiguous() if name == "kernel" else tensor

    return convert("", tree)
