"""Losses: NT-Xent, the norm term of outlier exposure, and the two baselines with which OECL is compared.

Every loss is a mean over the rows of all devices: each device sums over its own rows and `psum` adds the sums, so that
the value and its gradient do not depend on the split of the batch. Rows that are not `valid` are padding.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Features = Float[Array, "n d"]
Valid = Bool[Array, " n"] | None


def safe_norm(features: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """The l2-norm over the last axis, with gradient 0 (instead of NaN) at the origin."""
    squares = jnp.square(features).sum(-1)
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def global_mean(rows: Float[Array, " n"], valid: Valid = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Mean of `rows` over the valid rows of all devices of the mesh axis `axis_name`."""
    valid = jnp.ones(rows.shape, bool) if valid is None else valid
    total, count = jnp.where(valid, rows, 0).sum(), valid.sum().astype(rows.dtype)
    if axis_name is not None:
        total, count = jax.lax.psum(total, axis_name), jax.lax.psum(count, axis_name)
    return total / count


def nt_xent(
    first: Features, second: Features, temperature: float, valid: Valid = None, axis_name: str | None = None
) -> Float[Array, ""]:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, section 2.1).

    With z = f / ||f||, the mean over all 2n views i of -log(exp(z_i.z_p / t) / sum over k != i of exp(z_i.z_k / t)),
    where p is the other view of the same image and k runs over the views of all devices.

    Args:
        first: head outputs of one view of each image on this device.
        second: head outputs of the other view, in the same order.
        temperature: t.
        valid: False for padding rows, which are neither anchors nor negatives.
        axis_name: mesh axis whose devices share their negatives, or None.
    """
    unit = [view / jnp.maximum(safe_norm(view), 1e-12)[:, None] for view in (first, second)]
    valid = jnp.ones(len(first), bool) if valid is None else valid
    others, column_valid, offset = unit, valid, jnp.int32(0)
    if axis_name is not None:
        others = [jax.lax.all_gather(view, axis_name, tiled=True) for view in unit]
        column_valid = jax.lax.all_gather(valid, axis_name, tiled=True)
        offset = jax.lax.axis_index(axis_name) * first.shape[0]
    columns = jnp.concatenate(others)
    total = others[0].shape[0]
    anchor_columns = offset + jnp.arange(first.shape[0])
    rows = []
    for view, (anchors, positives) in enumerate((unit, unit[::-1])):
        logits = jnp.matmul(anchors, columns.T, precision=jax.lax.Precision.HIGHEST) / temperature
        excluded = jnp.arange(2 * total) == (anchor_columns + view * total)[:, None]
        excluded |= ~jnp.concatenate([column_valid, column_valid])
        logits = jnp.where(excluded, -jnp.inf, logits)
        positive = (anchors * positives).sum(-1) / temperature
        # a padded anchor may have no valid column: mask its row, or its gradient is NaN
        rows.append(jnp.where(valid, jax.nn.logsumexp(logits, -1) - positive, 0))
    return (global_mean(rows[0], valid, axis_name) + global_mean(rows[1], valid, axis_name)) / 2


def mean_norm(features: Features, valid: Valid = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Mean l2-norm (not its square) of head outputs; of OE views, a term of the loss (OECL, arXiv:2312.15288)."""
    return global_mean(safe_norm(features), valid, axis_name)


def pseudo_huber(features: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """The distance h = sqrt(||z||^2 + 1) - 1 of the hypersphere classifier (Liznerski et al. 2022)."""
    squares = jnp.square(features).sum(-1)
    # equals sqrt(s + 1) - 1, without cancellation near 0
    return squares / (jnp.sqrt(squares + 1) + 1)


def hypersphere(
    normal: Features, oe: Features, valid: Valid = None, oe_valid: Valid = None, axis_name: str | None = None
) -> Float[Array, ""]:
    """HSC: the mean over both sides of h for normal images and -log(1 - exp(-h) + 1e-9) for OE images.

    Source: "Rethinking Assumptions in Deep Anomaly Detection", section 3.
    """
    far = -jnp.log(-jnp.expm1(-pseudo_huber(oe)) + 1e-9)
    return (global_mean(pseudo_huber(normal), valid, axis_name) + global_mean(far, oe_valid, axis_name)) / 2


def binary_cross_entropy(
    normal: Features, oe: Features, valid: Valid = None, oe_valid: Valid = None, axis_name: str | None = None
) -> Float[Array, ""]:
    """BCE of the normal-class logit (the single head output) for normal against OE images, mean over both sides."""
    positive, negative = jax.nn.softplus(-normal[:, 0]), jax.nn.softplus(oe[:, 0])
    return (global_mean(positive, valid, axis_name) + global_mean(negative, oe_valid, axis_name)) / 2
