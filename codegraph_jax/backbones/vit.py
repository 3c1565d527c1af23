"""One vision transformer for CLIP's image tower and DINOv2, any input size that the patch divides.

CLIP: Radford et al. 2021 (arXiv:2103.00020), section 2.4. DINOv2: Oquab et al. 2023 (arXiv:2304.07193); registers:
Darcet et al. 2023 (arXiv:2309.16588). Both are pre-norm ViTs (Dosovitskiy et al. 2020,
arXiv:2010.11929); `Architecture` holds where they differ.
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
from codegraph_jax.backbones.positions import resampling_matrix


@dataclass(frozen=True)
class Architecture:
    """The shape of a vision transformer."""

    patch_size: int
    width: int
    depth: int
    heads: int
    grid: int
    """Side of the learned grid of positions."""
    mlp_width: int
    """Hidden units of an MLP; for SwiGLU, of each of the two halves."""
    activation: str = "gelu"
    """`gelu` (by erf), `quick_gelu` (x sigmoid(1.702 x)) or `swiglu`."""
    registers: int = 0
    patch_bias: bool = True
    pre_norm: bool = False
    """A LayerNorm before the first block (CLIP)."""
    layer_scale: bool = True
    projection: int = 0
    """Width of the projection of the class token (CLIP); 0: none."""
    norm_epsilon: float = 1e-6
    antialias: bool = False
    """Positions are interpolated with antialiasing (DINOv2 with registers)."""


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
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
        batch, tokens, width = x.shape
        qkv = Dense(3 * width, self.dtype, name="qkv")(x).astype(self.dtype)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, width // self.heads), 2, 0)
        mixed = attention(query, key, value, self.route, precision_of(self.dtype))
        return Dense(width, self.dtype, name="out")(mixed.reshape(batch, tokens, width))


class Mlp(nn.Module):
    hidden: int
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
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
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
        a = self.architecture
        y = Attention(a.heads, self.dtype, self.route, name="attention")(_norm(a, "norm1")(x))
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
            class token and registers dropped. `image`: float32 [b, d]; with a projection (CLIP) the projected class
            token after the last norm, scaled to length 1; without (DINOv2) the normed class token as it is.
        """
        a = self.architecture
        x = self._embed(images)
        last_norm = _norm(a, "norm")
        special = 1 + a.registers
        outputs = {}
        for i in range(a.depth):
            x = Block(a, self.dtype, self.route, name=f"block_{i}")(x)
            if i in self.blocks:
                outputs[i] = x[:, special:]
        image = last_norm(x[:, 0])
        if a.projection:
            image = Dense(a.projection, jnp.float32, use_bias=False, name="projection")(image)
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

        token = self.param("class_token", nn.initializers.normal(0.02), (a.width,))
        positions = self.param("positions", nn.initializers.normal(0.02), (1 + a.grid**2, a.width))
        first = jnp.broadcast_to(token + positions[0], (batch, 1, a.width))
        rows = [first, patches + self._positions(positions[1:], h, w)]
        if a.registers:
            registers = self.param("registers", nn.initializers.normal(0.02), (a.registers, a.width))
            rows.insert(1, jnp.broadcast_to(registers, (batch, *registers.shape)))
        x = jnp.concatenate(rows, axis=1)
        return _norm(a, "pre_norm")(x) if a.pre_norm else x

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


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"gelu": _gelu, "quick_gelu": _quick_gelu}
"""MLP activations by the names that checkpoints' configurations use."""
