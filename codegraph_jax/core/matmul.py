"""Matrix products whose precision is named: a GPU's own choice for float32 is TF32, and CPU tests cannot see it."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def product_precision(precision: str) -> lax.Precision:
    """XLA's name of a precision: `float32`, `tf32` or `bfloat16`.

    HIGHEST is true float32 everywhere; HIGH is TF32 on GPUs, three bfloat16 passes on TPUs, float32 on CPUs.
    """
    return {
        "float32": lax.Precision.HIGHEST,
        "tf32": lax.Precision.HIGH,
        "bfloat16": lax.Precision.DEFAULT,
    }[precision]


def inner_products(left: Float[Array, "a c"], right: Float[Array, "b c"], precision: str) -> Float[Array, "a b"]:
    """Products of every row of `left` with every row of `right`, summed in float32.

    Args:
        left, right: rows of c channels.
        precision: of the products, see `product_precision`.
    """
    contract_channels = (((1,), (1,)), ((), ()))
    return lax.dot_general(
        left, right, contract_channels, precision=product_precision(precision), preferred_element_type=jnp.float32
    )
