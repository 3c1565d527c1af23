"""ResNet-18 with the CIFAR or the ImageNet stem, and the contrastive head (He et al. 2016; docs/oecl.md)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from codegraph_jax.core.matmul import product_precision
from contrastive_jax.config import ModelConfig
from contrastive_jax.network.batch_norm import BatchNorm
from contrastive_jax.network.convolution import conv_general_dilated
from contrastive_jax.objectives import OBJECTIVES

BLOCKS = (2, 2, 2, 2)

# Uniform in +-1/sqrt(fan_in), PyTorch's default for convolutions and linear layers. The score is the norm of the head's
# output, so its initial scale is part of the method.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def bias_init(fan_in: int) -> Callable[..., Array]:
    """Uniform in +-1/sqrt(fan_in), PyTorch's default for the bias of a linear layer."""

    def init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


def conv(width: int, kernel: int, stride: int, dtype: jnp.dtype, precision: jax.lax.Precision, name: str) -> nn.Conv:
    """A square convolution without bias, padded by half its kernel on every side for any stride, as in PyTorch."""
    return nn.Conv(
        width,
        (kernel, kernel),
        stride,
        padding=kernel // 2,
        use_bias=False,
        dtype=dtype,
        precision=precision,
        kernel_init=kernel_init,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which has a 1x1 convolution if the shape changes."""

    width: int
    stride: int
    dtype: jnp.dtype
    axis_name: str | None
    precision: jax.lax.Precision

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool, valid: Bool[Array, " n"] | None
    ) -> Float[Array, "n h2 w2 c2"]:
        """Runs the block; arguments as for `ContrastiveResNet`."""

        def norm(name: str, y: Array) -> Array:
            return BatchNorm(self.axis_name, name=name)(y, train, valid)

        y = conv(self.width, 3, self.stride, self.dtype, self.precision, "conv1")(x)
        y = nn.relu(norm("norm1", y))
        y = norm("norm2", conv(self.width, 3, 1, self.dtype, self.precision, "conv2")(y))
        if self.stride != 1 or x.shape[-1] != self.width:
            shortcut = conv(self.width, 1, self.stride, self.dtype, self.precision, "shortcut_conv")
            x = norm("shortcut_norm", shortcut(x))
        return nn.relu(x + y)


class ContrastiveResNet(nn.Module):
    """ResNet-18 without its classifier, and the head Linear, BatchNorm, ReLU, Linear on top.

    Attributes:
        stem: "cifar" or "imagenet".
        width: channels of the first stage.
        head_dim: width of the head's output.
        dtype: type of activations and products.
        axis_name: mesh axis over which the batch is split, or None.
        precision: precision of products.
    """

    stem: str
    width: int
    head_dim: int
    dtype: jnp.dtype
    axis_name: str | None
    precision: jax.lax.Precision

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool, valid: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n d"]:
        """Runs the network.

        Args:
            images: normalised pixels.
            train: whether BatchNorm uses the statistics of the batch and updates the running ones.
            valid: False for padding rows; None: there is no padding.

        Returns:
            f(x) of the paper without normalisation, [n, head_dim], float32, or `dtype` if that is wider.
        """
        kernel, stride = (3, 1) if self.stem == "cifar" else (7, 2)
        x = conv(self.width, kernel, stride, self.dtype, self.precision, "stem_conv")(images.astype(self.dtype))
        x = nn.relu(BatchNorm(self.axis_name, name="stem_norm")(x, train, valid))
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate(BLOCKS):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                width, name = self.width * 2**stage, f"stage{stage + 1}_block{block + 1}"
                x = BasicBlock(width, stride, self.dtype, self.axis_name, self.precision, name=name)(x, train, valid)
        wide = jnp.promote_types(jnp.float32, self.dtype)
        pooled = x.astype(wide).mean((1, 2))
        features = pooled.shape[-1]
        y = _dense(features, features, self.dtype, self.precision, "head_hidden")(pooled.astype(self.dtype))
        y = nn.relu(BatchNorm(self.axis_name, name="head_norm")(y, train, valid))
        y = _dense(features, self.head_dim, self.dtype, self.precision, "head_out")(y)
        return y.astype(wide)


def build_network(config: ModelConfig, objective: str, axis_name: str | None = None) -> ContrastiveResNet:
    """The network of a config; an objective may set the width of the head."""
    return ContrastiveResNet(
        stem=config.stem,
        width=config.width,
        head_dim=OBJECTIVES[objective].head_dim or config.head_dim,
        dtype=jnp.dtype("float32" if config.dtype == "tf32" else config.dtype),
        axis_name=axis_name,
        precision=product_precision(config.dtype),
    )


def _dense(fan_in: int, width: int, dtype: jnp.dtype, precision: jax.lax.Precision, name: str) -> nn.Dense:
    biases = bias_init(fan_in)
    return nn.Dense(width, dtype=dtype, precision=precision, kernel_init=kernel_init, bias_init=biases, name=name)
