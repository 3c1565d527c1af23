"""The convolution of the network: without bias, and with the padding of PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Uniform in +-1/sqrt(fan_in), PyTorch's default for convolutions and linear layers. The score is the norm of the head's
# output, so its initial scale is part of the method.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A square convolution, padded by half its kernel on every side for any stride.

    Attributes:
        width: output channels.
        kernel: side of the kernel.
        stride: stride along both axes.
        dtype: type of the product.
        precision: precision of the product.
    """

    width: int
    kernel: int
    stride: int
    dtype: jnp.dtype
    precision: jax.lax.Precision

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        """Convolves `x`."""
        kernel = self.param("kernel", kernel_init, (self.kernel, self.kernel, x.shape[-1], self.width))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        pad = self.kernel // 2
        if -(-x.shape[1] // self.stride) < self.kernel and self.kernel > 1:
            padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            return _by_patches(padded, kernel, self.stride, self.precision)
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride,) * 2,
            ((pad, pad),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=self.precision,
        )


def _by_patches(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c d"], stride: int, precision: jax.lax.Precision
) -> Float[Array, "n h2 w2 d"]:
    """The convolution of a padded map that is smaller than the kernel, as one product of patches.

    XLA exchanges the operands of such a convolution, which on CPUs takes eight times as long as this product.
    """
    side, channels, width = kernel.shape[0], *kernel.shape[2:]
    rows, columns = ((length - side) // stride + 1 for length in x.shape[1:3])
    patches = jnp.concatenate(
        [
            x[:, i : i + rows * stride : stride, j : j + columns * stride : stride]
            for i in range(side)
            for j in range(side)
        ],
        axis=-1,
    )
    return jnp.matmul(patches, kernel.reshape(side * side * channels, width), precision=precision)
