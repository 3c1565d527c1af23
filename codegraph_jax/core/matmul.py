"""Matrix products with explicit precision: the default on GPUs is TF32 for float32 inputs."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def product_precision(precision: str) -> lax.Precision:
    """XLA's precision for `float32`, `tf32` or `bfloat16`.

    HIGHEST is float32 on all devices; HIGH is TF32 on GPUs, three bfloat16 passes on TPUs, float32 on CPUs.
    """
    return {
        "float32": lax.Precision.HIGHEST,
        "tf32": lax.Precision.HIGH,
        "bfloat16": lax.Precision.DEFAULT,
    }[precision]


def inner_products(left: Float[Array, "a c"], right: Float[Array, "b c"], precision: str) -> Float[Array, "a b"]:
    """Inner products of every row of `left` with every row of `right`, accumulated in float32.

    Args:
        left, right: rows of c channels.
        precision: precision of the products, see `product_precision`.
    """
    contract_channels = (((1,), (1,)), ((), ()))
    return lax.dot_general(
        left, right, contract_channels, precision=product_precision(precision), preferred_element_type=jnp.float32
    )
