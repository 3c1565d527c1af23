"""One vision transformer for the image encoders of CLIP, SigLIP, DINOv2 and DINOv3, for any multiple of the patch size.

CLIP: Radford et al. 2021 (arXiv:2103.00020), section 2.4. SigLIP 2: Tschannen et al. 2025 (arXiv:2502.14786). DINOv2:
Oquab et al. 2023 (arXiv:2304.07193); registers: Darcet et al. 2023 (arXiv:2309.16588). DINOv3: Simeoni et al. 2025
(arXiv:2508.10104). All are pre-norm ViTs (Dosovitskiy et al. 2020, arXiv:2010.11929); see `Architecture`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from codegraph_jax.backbones.attention import Route, attention
from codegraph_jax.backbones.positions import resampling_matrix, rotary_angles
from codegraph_jax.core.matmul import product_precision

Rotation = tuple[Float[Array, "t d"], Float[Array, "t d"]]
"""Cosines and sines of the angles of each token."""


@dataclass(frozen=True)
class Architecture:
    """The shape of a vision transformer."""

    patch_size: int
    width: int
    depth: int
    heads: int
    grid: int
    """Side of the learned grid of positions; 0 for rotary positions."""
    mlp_width: int
    """Hidden units of an MLP; of each half for SwiGLU."""
    activation: str = "gelu"
    """`gelu` (exact), `gelu_pytorch_tanh` (approximate), `quick_gelu` (x sigmoid(1.702 x)) or `swiglu`."""
    class_token: bool = True
    """Whether there is a class token; SigLIP has none."""
    registers: int = 0
    rotary: float = 0.0
    """Base period of rotary positions (DINOv3), which rotate queries and keys; 0: positions are learned and added."""
    key_bias: bool = True
    """False for DINOv3, whose keys have no bias."""
    patch_bias: bool = True
    pre_norm: bool = False
    """True for CLIP, which has a LayerNorm before the first block."""
    layer_scale: bool = True
    projection: int = 0
    """Width of the projection of the class token (CLIP); 0: none."""
    pooling: bool = False
    """Whether the image feature comes from attention with a learned query (SigLIP) instead of the class token."""
    norm_epsilon: float = 1e-6
    interpolation: Literal["cubic", "antialiased", "linear"] = "cubic"
    """How learned positions are resampled: `cubic` as PyTorch's bicubic, see `resampling_matrix`; `antialiased` (DINOv2
    with registers) and `linear` (SigLIP 2 NaFlex) as `jax.image.resize` with its cubic and linear kernels."""

    @property
    def special_tokens(self) -> int:
        """Number of tokens before the patch tokens."""
        return int(self.class_token) + self.registers


class Dense(nn.Module):
    """x W + b, with operands in `dtype`, and sums, bias and result in float32."""

    features: int
    dtype: Any
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
        """Applies the layer to the last axis."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        y = lax.dot_general(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (((x.ndim - 1,), (0,)), ((), ())),
            precision=precision_of(self.dtype),
            preferred_element_type=jnp.float32,
        )
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        return y


class Attention(nn.Module):
    """Multi-head self-attention, optionally with rotary positions."""

    heads: int
    dtype: Any
    route: Route

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], rotation: Rotation | None = None) -> Float[Array, "b t c"]:
        """Mixes the tokens of each image."""
        batch, tokens, width = x.shape
        qkv = Dense(3 * width, self.dtype, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, width // self.heads), 2, 0)
        if rotation:
            query, key = rotated(query, rotation), rotated(key, rotation)
        query, key, value = (y.astype(self.dtype) for y in (query, key, value))
        mixed = attention(query, key, value, self.route, precision_of(self.dtype))
        return Dense(width, self.dtype, name="out")(mixed.reshape(batch, tokens, width))


class AttentionPooling(nn.Module):
    """Attention of a learned query to all tokens, followed by an MLP (Zhai et al. 2022, arXiv:2106.04560)."""

    architecture: Architecture
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b c"]:
        """The image feature from all tokens."""
        a, (batch, tokens, width) = self.architecture, x.shape
        probe = self.param("probe", nn.initializers.normal(0.02), (width,))
        # one product for the probe and all tokens; the queries of the tokens are not used
        rows = jnp.concatenate([jnp.broadcast_to(probe, (batch, 1, width)), x], axis=1)
        qkv = Dense(3 * width, self.dtype, name="qkv")(rows).astype(self.dtype)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, 1 + tokens, 3, a.heads, width // a.heads), 2, 0)
        mixed = attention(query[:, :1], key[:, 1:], value[:, 1:], "batched", precision_of(self.dtype))
        y = Dense(width, self.dtype, name="out")(mixed.reshape(batch, width))
        return y + Mlp(a.mlp_width, a.activation, self.dtype, name="mlp")(_norm(a, "norm")(y))


class Mlp(nn.Module):
    """Two layers with an activation between them, or a SwiGLU."""

    hidden: int
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Applies the MLP to each token."""
        if self.activation == "swiglu":
            gate, linear = jnp.split(Dense(2 * self.hidden, self.dtype, name="in")(x), 2, axis=-1)
            y = jax.nn.silu(gate) * linear
        else:
            y = ACTIVATIONS[self.activation](Dense(self.hidden, self.dtype, name="in")(x))
        return Dense(x.shape[-1], self.dtype, name="out")(y)


class Block(nn.Module):
    """x + s1 attention(norm(x)), then x + s2 mlp(norm(x)), with s1 = s2 = 1 if there is no LayerScale."""

    architecture: Architecture
    dtype: Any
    route: Route

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], rotation: Rotation | None = None) -> Float[Array, "b t c"]:
        """Applies the block to the tokens of each image."""
        a = self.architecture
        y = Attention(a.heads, self.dtype, self.route, name="attention")(_norm(a, "norm1")(x), rotation)
        x = x + self._scaled(y, "scale1")
        y = Mlp(a.mlp_width, a.activation, self.dtype, name="mlp")(_norm(a, "norm2")(x))
        return x + self._scaled(y, "scale2")

    def _scaled(self, y: Float[Array, "b t c"], name: str) -> Float[Array, "b t c"]:
        if not self.architecture.layer_scale:
            return y
        return y * self.param(name, nn.initializers.ones, (y.shape[-1],))


class VisionTransformer(nn.Module):
    """Patch tokens after chosen blocks, and one feature of the whole image.

    Attributes:
        architecture: shape of the network.
        blocks: 0-based blocks whose outputs are returned.
        final_norm: apply the last LayerNorm to each of these outputs.
        dtype: type of the operands of products; the residual stream and all outputs are float32.
        route: implementation of attention, see `codegraph_jax.backbones.attention`.
    """

    architecture: Architecture
    blocks: tuple[int, ...]
    final_norm: bool
    dtype: Any = jnp.float32
    route: Route = "batched"

    @nn.compact
    def __call__(self, images: Float[Array, "b y x 3"]) -> dict[str, Any]:
        """Features of normalised images.

        Returns:
            `blocks`: a list of float32 [b, p, c], one for each of `blocks` in that order, with the p patches row by row
            and without class token and registers. `image`: float32 [b, d]; the class token after the last norm
            (DINOv2, DINOv3), projected and scaled to unit length (CLIP), or the pooled tokens scaled to unit length
            (SigLIP).
        """
        a = self.architecture
        x = self._embed(images)
        rotation = self._rotation(images.shape[1] // a.patch_size, images.shape[2] // a.patch_size)
        last_norm = _norm(a, "norm")
        outputs = {}
        for i in range(a.depth):
            x = Block(a, self.dtype, self.route, name=f"block_{i}")(x, rotation)
            if i in self.blocks:
                outputs[i] = x[:, a.special_tokens :]
        if a.pooling:
            image = AttentionPooling(a, self.dtype, name="pooling")(last_norm(x))
        else:
            image = last_norm(x[:, 0])
        if a.projection:
            image = Dense(a.projection, jnp.float32, use_bias=False, name="projection")(image)
        if a.projection or a.pooling:
            image = image / jnp.linalg.norm(image, axis=-1, keepdims=True)
        patches = [last_norm(outputs[i]) if self.final_norm else outputs[i] for i in self.blocks]
        return {"blocks": patches, "image": image}

    def _embed(self, images: Float[Array, "b y x 3"]) -> Float[Array, "b t c"]:
        a = self.architecture
        batch, height, width, _ = images.shape
        h, w = height // a.patch_size, width // a.patch_size
        cells = images.reshape(batch, h, a.patch_size, w, a.patch_size, 3)
        cells = jnp.moveaxis(cells, 3, 2).reshape(batch, h * w, a.patch_size * a.patch_size * 3)
        patches = Dense(a.width, self.dtype, use_bias=a.patch_bias, name="patch")(cells)

        first = self.param("class_token", nn.initializers.normal(0.02), (a.width,)) if a.class_token else None
        if not a.rotary:
            positions = self.param("positions", nn.initializers.normal(0.02), (a.class_token + a.grid**2, a.width))
            if first is not None:
                first, positions = first + positions[0], positions[1:]
            patches = patches + self._positions(positions, h, w)
        rows = [] if first is None else [jnp.broadcast_to(first, (batch, 1, a.width))]
        if a.registers:
            registers = self.param("registers", nn.initializers.normal(0.02), (a.registers, a.width))
            rows.append(jnp.broadcast_to(registers, (batch, *registers.shape)))
        x = jnp.concatenate([*rows, patches], axis=1)
        return _norm(a, "pre_norm")(x) if a.pre_norm else x

    def _rotation(self, h: int, w: int) -> Rotation | None:
        """The rotations of the tokens of an image of h x w patches; class token and registers are not rotated."""
        a = self.architecture
        if not a.rotary:
            return None
        angles = rotary_angles(h, w, a.width // a.heads, a.rotary)
        angles = np.concatenate([np.zeros((a.special_tokens, angles.shape[1])), angles])
        return jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)

    def _positions(self, learned: Float[Array, "q c"], h: int, w: int) -> Float[Array, "p c"]:
        a = self.architecture
        if (h, w) == (a.grid, a.grid):
            return learned
        learned = learned.reshape(a.grid, a.grid, a.width)
        if a.interpolation != "cubic":
            method = "linear" if a.interpolation == "linear" else "cubic"
            return jax.image.resize(learned, (h, w, a.width), method).reshape(h * w, a.width)
        down, across = (resampling_matrix(a.grid, n).astype(np.float32) for n in (h, w))
        rows = jnp.einsum("hi,ijc->hjc", down, learned, precision=lax.Precision.HIGHEST)
        return jnp.einsum("wj,hjc->hwc", across, rows, precision=lax.Precision.HIGHEST).reshape(h * w, a.width)


def rotated(x: Float[Array, "b t heads d"], rotation: Rotation) -> Float[Array, "b t heads d"]:
    """Rotates channels i and i + d / 2 of each token, as a point in the plane, by angle i of the token."""
    half = x.shape[-1] // 2
    cosine, sine = (y[:, None, :half] for y in rotation)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def precision_of(dtype: Any) -> lax.Precision:
    """True float32 products for float32, where GPUs default to TF32 and TPUs to bfloat16; one pass for bfloat16."""
    return product_precision(jnp.dtype(dtype).name)


def _norm(architecture: Architecture, name: str) -> nn.LayerNorm:
    # the one-pass variance is inaccurate if a few channels are very large, as in CLIP
    return nn.LayerNorm(epsilon=architecture.norm_epsilon, use_fast_variance=False, name=name)


def _gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return 0.5 * x * (1.0 + lax.erf(x * np.float32(np.sqrt(0.5))))


def _quick_gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": _quick_gelu,
}
"""MLP activations by their names in the config.json of checkpoints."""
