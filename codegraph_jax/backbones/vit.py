"""One vision transformer for the image towers of CLIP and SigLIP, DINOv2 and DINOv3; any size that the patch divides.

CLIP: Radford et al. 2021 (arXiv:2103.00020), section 2.4. SigLIP 2: Tschannen et al. 2025 (arXiv:2502.14786). DINOv2:
Oquab et al. 2023 (arXiv:2304.07193); registers: Darcet et al. 2023 (arXiv:2309.16588). DINOv3: Simeoni et al. 2025
(arXiv:2508.10104). All are pre-norm ViTs (Dosovitskiy et al. 2020, arXiv:2010.11929); `Architecture` holds where they
differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from codegraph_jax.backbones.attention import Route, attention
from codegraph_jax.backbones.positions import resampling_matrix, rotary_angles


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
    """Hidden units of an MLP; for SwiGLU, of each of the two halves."""
    activation: str = "gelu"
    """`gelu` (by erf), `gelu_pytorch_tanh` (its usual approximation), `quick_gelu` (x sigmoid(1.702 x)) or `swiglu`."""
    class_token: bool = True
    """Whether there is a class token; SigLIP has none."""
    registers: int = 0
    rotary: float = 0.0
    """Base period of rotary positions (DINOv3), which turn queries and keys; 0: positions are learned and added."""
    key_bias: bool = True
    """Keys have a bias; DINOv3's is always zero."""
    patch_bias: bool = True
    pre_norm: bool = False
    """A LayerNorm before the first block (CLIP)."""
    layer_scale: bool = True
    projection: int = 0
    """Width of the projection of the class token (CLIP); 0: none."""
    pooling: bool = False
    """Attention by a learned query gives the image feature (SigLIP), not the class token."""
    norm_epsilon: float = 1e-6
    antialias: bool = False
    """Positions are interpolated with antialiasing (DINOv2 with registers)."""

    @property
    def special_tokens(self) -> int:
        """Number of tokens before the patch tokens."""
        return int(self.class_token) + self.registers


class Dense(nn.Module):
    """x W + b: operands in `dtype`, sums, bias and result in float32."""

    features: int
    dtype: Any
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
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
    heads: int
    dtype: Any
    route: Route

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], turn: "Turn | None" = None) -> Float[Array, "b t c"]:
        batch, tokens, width = x.shape
        qkv = Dense(3 * width, self.dtype, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, width // self.heads), 2, 0)
        if turn:
            query, key = turned(query, turn), turned(key, turn)
        query, key, value = (y.astype(self.dtype) for y in (query, key, value))
        mixed = attention(query, key, value, self.route, precision_of(self.dtype))
        return Dense(width, self.dtype, name="out")(mixed.reshape(batch, tokens, width))


class AttentionPooling(nn.Module):
    """One token from all: a learned query attends to them, and an MLP follows (Zhai et al. 2022, arXiv:2106.04560)."""

    architecture: Architecture
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b c"]:
        a, (batch, tokens, width) = self.architecture, x.shape
        probe = self.param("probe", nn.initializers.normal(0.02), (width,))
        # the query goes through the product of all tokens: one of a thousand, and their queries are not read
        rows = jnp.concatenate([jnp.broadcast_to(probe, (batch, 1, width)), x], axis=1)
        qkv = Dense(3 * width, self.dtype, name="qkv")(rows).astype(self.dtype)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, 1 + tokens, 3, a.heads, width // a.heads), 2, 0)
        mixed = attention(query[:, :1], key[:, 1:], value[:, 1:], "batched", precision_of(self.dtype))
        y = Dense(width, self.dtype, name="out")(mixed.reshape(batch, width))
        return y + Mlp(a.mlp_width, a.activation, self.dtype, name="mlp")(_norm(a, "norm")(y))


class Mlp(nn.Module):
    hidden: int
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        if self.activation == "swiglu":
            gate, linear = jnp.split(Dense(2 * self.hidden, self.dtype, name="in")(x), 2, axis=-1)
            y = jax.nn.silu(gate) * linear
        else:
            y = ACTIVATIONS[self.activation](Dense(self.hidden, self.dtype, name="in")(x))
        return Dense(x.shape[-1], self.dtype, name="out")(y)


class Block(nn.Module):
    """x + s1 attention(norm(x)), then x + s2 mlp(norm(x)); s1 = s2 = 1 without LayerScale."""

    architecture: Architecture
    dtype: Any
    route: Route

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], turn: "Turn | None" = None) -> Float[Array, "b t c"]:
        a = self.architecture
        y = Attention(a.heads, self.dtype, self.route, name="attention")(_norm(a, "norm1")(x), turn)
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
        architecture: the shape.
        blocks: 0-based blocks whose outputs are returned.
        final_norm: apply the last LayerNorm to each of those outputs.
        dtype: of the operands of products; the residual stream and all outputs are float32.
        route: how attention is computed; see `codegraph_jax.backbones.attention`.
        position_offset: see `resampling_matrix`.
    """

    architecture: Architecture
    blocks: tuple[int, ...]
    final_norm: bool
    dtype: Any = jnp.float32
    route: Route = "batched"
    position_offset: float = 0.0

    @nn.compact
    def __call__(self, images: Float[Array, "b s s 3"]) -> dict[str, Any]:
        """Features of normalised images.

        Returns:
            `blocks`: a list of float32 [b, p, c], one for each of `blocks` in that order, the p patches in row order,
            class token and registers dropped. `image`: float32 [b, d]; the class token after the last norm, as it is
            (DINOv2, DINOv3), or projected and scaled to length 1 (CLIP); the pooled patches scaled to length 1
            (SigLIP).
        """
        a = self.architecture
        x = self._embed(images)
        turn = self._turn(images.shape[1] // a.patch_size, images.shape[2] // a.patch_size)
        last_norm = _norm(a, "norm")
        outputs = {}
        for i in range(a.depth):
            x = Block(a, self.dtype, self.route, name=f"block_{i}")(x, turn)
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

    def _embed(self, images: Float[Array, "b s s 3"]) -> Float[Array, "b t c"]:
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

    def _turn(self, h: int, w: int) -> "Turn | None":
        """The rotation of every token of an image of h x w patches; other tokens are not rotated."""
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
        down, across = (
            resampling_matrix(a.grid, n, self.position_offset, a.antialias).astype(np.float32) for n in (h, w)
        )
        learned = learned.reshape(a.grid, a.grid, a.width)
        rows = jnp.einsum("hi,ijc->hjc", down, learned, precision=lax.Precision.HIGHEST)
        return jnp.einsum("wj,hjc->hwc", across, rows, precision=lax.Precision.HIGHEST).reshape(h * w, a.width)


Turn = tuple[Float[Array, "t d"], Float[Array, "t d"]]
"""Cosines and sines of the angles by which the channels of each token turn."""


def turned(x: Float[Array, "b t heads d"], turn: Turn) -> Float[Array, "b t heads d"]:
    """Each token's channels i and i + d / 2, taken as a point of the plane, turned by angle i of that token."""
    half = x.shape[-1] // 2
    cosine, sine = (y[:, None, :half] for y in turn)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def precision_of(dtype: Any) -> lax.Precision:
    """True float32 products for float32 (a GPU would take TF32, a TPU bfloat16 passes), one pass for bfloat16."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


def _norm(architecture: Architecture, name: str) -> nn.LayerNorm:
    # the one-pass variance loses digits where a few channels are huge, as CLIP's are
    return nn.LayerNorm(epsilon=architecture.norm_epsilon, use_fast_variance=False, name=name)


def _gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return 0.5 * x * (1.0 + lax.erf(x * np.float32(np.sqrt(0.5))))


def _quick_gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return x * jax.nn.sigmoid(1.702 * x)


def _gelu_tanh(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
}
"""MLP activations by their names in the config.json of checkpoints."""
