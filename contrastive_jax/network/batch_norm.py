"""BatchNorm with statistics over the global batch, on any number of devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MOMENTUM = 0.9
"""Weight of the running statistics in their update: PyTorch's default, whose momentum is 1 - 0.9."""

EPSILON = 1e-5
"""Constant added to the variance, PyTorch's default."""


class BatchNorm(nn.Module):
    """Normalises over all axes but the last, with statistics summed over the devices of a mesh axis.

    In training y = (x - mean) / sqrt(var + eps) * scale + bias, with mean and (biased) var over valid entries of all
    devices; running statistics are updated with weight 1 - `MOMENTUM`, the variance in its unbiased form, as in
    PyTorch. Otherwise the running statistics are used. They are float32 (Ioffe & Szegedy 2015, section 3).

    Attributes:
        axis_name: mesh axis over which the batch is split, or None.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n *space c"], train: bool, valid: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n *space c"]:
        """Normalises `x`; rows that are not `valid` are padding and are left out of the statistics."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        values = x.astype(scale.dtype)
        if train and not self.is_initializing():
            mean, var, count = self._batch_statistics(values, valid)
            running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean
            running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var * count / jnp.maximum(count - 1, 1)
        else:
            mean, var = running_mean.value, running_var.value
        gain = scale * jax.lax.rsqrt(var + EPSILON)
        return ((values - mean) * gain + bias).astype(x.dtype)

    def _batch_statistics(
        self, values: Float[Array, "n *space c"], valid: Bool[Array, " n"] | None
    ) -> tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
        """Mean, biased variance and number of entries per channel, over all devices."""
        axes = tuple(range(values.ndim - 1))
        valid = jnp.ones(values.shape[:1], bool) if valid is None else valid
        rows = valid.reshape(-1, *(1 for _ in axes[1:]), 1)
        entries_per_row = values.size // (values.shape[0] * values.shape[-1])

        def total(x: Array) -> Array:
            return self._over_devices(jnp.where(rows, x, 0).sum(axes))

        count = self._over_devices(valid.sum().astype(values.dtype) * entries_per_row)
        mean = total(values) / count
        # computed in a second pass, since E[x^2] - E[x]^2 loses a digit of the gradient
        return mean, total(jnp.square(values - mean)) / count, count

    def _over_devices(self, x: Array) -> Array:
        return x if self.axis_name is None else jax.lax.psum(x, self.axis_name)
