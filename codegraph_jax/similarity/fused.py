"""The `direct` kernel written by hand in Pallas: product and maxima in one kernel; cosines are not stored in memory.

A matrix of 1369 x 1369 cosines takes 7.5 MB, which `direct` writes and reads for 2 x 1369 maxima; on an accelerator
this costs about as much as the product. The grid of this kernel runs over pairs of images, blocks of rows and blocks of
columns. Each block of cosines stays in registers or on-chip memory; only the running maxima of rows and columns are
written.

The kernel lowers for TPU and runs on any platform in interpret mode; the tests check both, and compare the numbers with
`direct`. It has not been timed on hardware, so `auto` never chooses it. For GPUs there is
`codegraph_jax.similarity.fused_gpu`, with the error bounds of bfloat16.

Error bounds of |a - b|^2 of unit vectors, from the rounding of the operands (u per factor gives 2 (2u + u^2)) and of
the sums: float32 5e-6, TF32 (u = 2^-11) 2e-3, bfloat16 (u = 2^-9) 8e-3.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

BLOCK = 256
"""Patches of each image in one step; two blocks of 1024 channels and their product are small for on-chip memory."""


def supported(platform: str) -> bool:
    """Whether the kernel compiles for a platform; on others it can only be emulated, which is slow."""
    return platform == "tpu"


@partial(jax.jit, static_argnames=("precision", "interpret", "block"))
def pair_maxima(
    left: Float[Array, "n p c"],
    right: Float[Array, "m p c"],
    first: Int[Array, " b"],
    second: Int[Array, " b"],
    precision: lax.Precision,
    interpret: bool = False,
    block: int = BLOCK,
) -> tuple[Float[Array, "b p"], Float[Array, "b p"]]:
    """Greatest cosine of each patch with any patch of the other image, for the pairs (left[first], right[second]).

    `left` and `right` are unit vectors, float32 or bfloat16; products are summed in float32. `interpret` emulates the
    kernel, on any platform, and `block` is the number of patches of each image in one step.

    Returns:
        The maxima of the patches of the first image, and of the second.
    """
    pairs, (_, p, c) = len(first), left.shape
    steps = -(-p // block)
    rows, columns = pl.pallas_call(
        partial(_kernel, p=p, block=block, precision=precision),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(pairs, steps, steps),
            in_specs=[
                pl.BlockSpec((1, block, c), lambda b, i, j, first, second: (first[b], i, 0)),
                pl.BlockSpec((1, block, c), lambda b, i, j, first, second: (second[b], j, 0)),
            ],
            out_specs=[
                pl.BlockSpec((1, block, 1), lambda b, i, j, first, second: (b, i, 0)),
                # one block for the whole pair, since every block of rows updates it
                pl.BlockSpec((1, 1, steps * block), lambda b, i, j, first, second: (b, 0, 0)),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct((pairs, steps * block, 1), jnp.float32),
            jax.ShapeDtypeStruct((pairs, 1, steps * block), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary", "arbitrary")),
        interpret=interpret,
    )(first, second, left, right)
    return rows[:, :p, 0], columns[:, 0, :p]


def _kernel(first_ref, second_ref, left_ref, right_ref, rows_ref, columns_ref, *, p, block, precision):  # type: ignore[no-untyped-def]
    """One block of rows against one block of columns of one pair."""
    i, j = pl.program_id(1), pl.program_id(2)

    @pl.when((i == 0) & (j == 0))
    def _first_block_of_the_pair() -> None:
        columns_ref[...] = jnp.full(columns_ref.shape, -jnp.inf, jnp.float32)

    @pl.when(j == 0)
    def _first_block_of_the_rows() -> None:
        rows_ref[...] = jnp.full(rows_ref.shape, -jnp.inf, jnp.float32)

    cosines = lax.dot_general(
        left_ref[0], right_ref[0], (((1,), (1,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )
    # the last blocks extend beyond the image, where memory is undefined
    row = i * block + lax.broadcasted_iota(jnp.int32, cosines.shape, 0)
    column = j * block + lax.broadcasted_iota(jnp.int32, cosines.shape, 1)
    cosines = jnp.where((row < p) & (column < p), cosines, -jnp.inf)
    rows_ref[0] = jnp.maximum(rows_ref[0], cosines.max(axis=1, keepdims=True))
    here = pl.ds(pl.multiple_of(j * block, block), block)
    columns_ref[0, :, here] = jnp.maximum(columns_ref[0, :, here], cosines.max(axis=0, keepdims=True))
