"""The `fused` kernel for GPUs (Hopper and newer): bfloat16 products, float32 sums, no cosines in memory.

One program computes 128 rows and up to 256 columns of one pair of images. One warpgroup loads blocks of both through a
ring of buffers; two others compute 64 rows each and keep the cosines in registers. Each computes the maxima of its rows
and of its columns, the latter across its warps in a few hundred bytes of shared memory, and writes both. XLA computes
the maxima over the blocks of a pair (0.3 MB, where the cosines are 7.5 MB).

If 128 does not divide the number of patches, the last block of cosines ends with the image and repeats rows of the one
before it.
Repeated rows change no maximum, so nothing is masked; `pad_vectors` repeats a patch for the same reason.

The tests run the kernel in Mosaic GPU's interpreter, which also detects races, and lower it for Hopper; it has not run
on hardware. The interpreter does not support the layout of the buffers or the product with a transposed buffer: it gets
the second image transposed, and only the lowering tests these two.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, BFloat16, Float, Int

WARPGROUP_ROWS = 64
"""Rows of one product of a warpgroup."""

ROWS = 2 * WARPGROUP_ROWS

MAX_COLUMNS = 256
"""The widest product; 64 x 256 sums take half of a warpgroup's registers."""

DEPTH = 64
"""Channels of one block: 128 bytes, the width of a swizzle."""

BUFFERS = 4
"""Number of blocks of 48 KiB in flight; shared memory holds four."""

ALIGNMENT = 8
"""The number of patches of an image must be a multiple of this for the hardware to copy blocks."""


def supported(precision: str) -> bool:
    """Whether the kernel exists for this device and precision."""
    device = jax.devices()[0]
    return device.platform == "gpu" and float(device.compute_capability) >= 9.0 and precision == "bfloat16"


def pad_vectors(vectors: Float[Array, "n p c"]) -> Float[Array, "n q d"]:
    """Pads the patches with copies of the last one, and the channels with zeros; neither changes a maximum."""
    p, c = vectors.shape[1:]
    vectors = jnp.pad(vectors, ((0, 0), (0, max(ROWS - p, -p % ALIGNMENT)), (0, 0)), mode="edge")
    return jnp.pad(vectors, ((0, 0), (0, 0), (0, -c % DEPTH)))


def block_columns(p: int) -> int:
    """Number of columns of a block of cosines: as few blocks as possible, with little overlap."""
    blocks = -(-p // MAX_COLUMNS)
    return -(-p // (blocks * ALIGNMENT)) * ALIGNMENT


def pair_maxima(
    left: BFloat16[Array, "n p c"],
    right: BFloat16[Array, "m p c"],
    first: Int[Array, " b"],
    second: Int[Array, " b"],
    emulate: bool = False,
) -> tuple[Float[Array, "b p"], Float[Array, "b p"]]:
    """`fused.pair_maxima` for unit vectors from `pad_vectors`; `emulate` interprets the kernel, slowly but anywhere."""
    plgpu = _mosaic_gpu()
    pairs, (_, p, c) = len(first), left.shape
    columns = block_columns(p)
    row_blocks, column_blocks = -(-p // ROWS), -(-p // columns)
    if emulate:
        right = right.swapaxes(1, 2)
    row_maxima, column_maxima = plgpu.kernel(
        partial(_kernel, shape=(p, c, columns), emulate=emulate),
        out_type=[
            jax.ShapeDtypeStruct((pairs, 2 * row_blocks, column_blocks, size), jnp.float32)
            for size in (WARPGROUP_ROWS, columns)
        ],
        scratch_types=[plgpu.SMEM((2, size), jnp.float32) for size in (WARPGROUP_ROWS, columns)],
        grid=(pairs, row_blocks, column_blocks),
        grid_names=("pair", "i", "j"),
        num_threads=3,
        thread_name="group",
        **({"interpret": _interpreter()} if emulate else {}),
    )(first, second, left, right)
    of_rows = row_maxima.max(axis=2).reshape(pairs, row_blocks, ROWS)
    return _joined(of_rows, p), _joined(column_maxima.max(axis=1), p)


def _kernel(  # type: ignore[no-untyped-def]
    first_ref, second_ref, left_ref, right_ref, rows_ref, columns_ref, rows_here, columns_here, *, shape, emulate
):
    """One block of cosines: maxima of its rows and of its columns, for each of the two computing warpgroups."""
    plgpu = _mosaic_gpu()
    p, c, columns = shape
    pair, i, j, group = (lax.axis_index(axis) for axis in ("pair", "i", "j", "group"))
    rows_at = pl.ds(lax.min(i * ROWS, p - ROWS), ROWS)
    columns_at = pl.ds(lax.min(j * columns, p - columns), columns)
    here = (slice(None), columns_at) if emulate else (columns_at, slice(None))

    def multiply(_: Any, left_here: Any, right_here: Any, cosines: Any) -> Any:
        mine = left_here.at[pl.ds(group * WARPGROUP_ROWS, WARPGROUP_ROWS)]
        plgpu.wgmma(cosines, mine, right_here if emulate else plgpu.transpose_ref(right_here, (1, 0)))
        # the previous product has finished and its buffers are free; this one is still running
        plgpu.wgmma_wait(1)
        return cosines

    def compute(run_pipeline: Any) -> None:
        def with_sums(sums: Any) -> None:
            run_pipeline(sums)
            cosines = sums[...]
            rows_here[group] = cosines.max(axis=1)
            columns_here[group] = cosines.max(axis=0)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(rows_here.at[group], rows_ref.at[pair, 2 * i + group, j])
            plgpu.copy_smem_to_gmem(columns_here.at[group], columns_ref.at[pair, 2 * i + group, j])
            plgpu.wait_smem_to_gmem(0)

        pl.run_scoped(with_sums, plgpu.ACC((WARPGROUP_ROWS, columns), jnp.float32))

    plgpu.emit_pipeline_warp_specialized(
        multiply,
        grid=(c // DEPTH,),
        in_specs=_inputs(columns, emulate),
        max_concurrent_steps=BUFFERS,
        memory_registers=40,
        wg_axis="group",
        num_compute_wgs=2,
        compute_context=compute,
    )(left_ref.at[first_ref[pair], rows_at], right_ref.at[(second_ref[pair], *here)])


def _inputs(columns: int, emulate: bool) -> list[Any]:
    """Block specifications that copy the two images into shared memory."""
    plgpu = _mosaic_gpu()
    layout = (plgpu.TilingTransform((8, DEPTH)), plgpu.SwizzleTransform(2 * DEPTH))
    left = plgpu.BlockSpec((ROWS, DEPTH), lambda k: (0, k), transforms=layout, delay_release=1)
    if emulate:
        return [left, plgpu.BlockSpec((DEPTH, columns), lambda k: (k, 0), delay_release=1)]
    return [left, plgpu.BlockSpec((columns, DEPTH), lambda k: (0, k), transforms=layout, delay_release=1)]


def _mosaic_gpu() -> Any:
    # imported on use, since this part of JAX changes often and only this kernel should then fail
    from jax.experimental.pallas import mosaic_gpu

    return mosaic_gpu


def _joined(blocks: Float[Array, "b t s"], p: int) -> Float[Array, "b p"]:
    """Joins the maxima of blocks; the last block has only the rows that the block before it does not have."""
    rest = p - (blocks.shape[1] - 1) * blocks.shape[2]
    return jnp.concatenate([blocks[:, :-1].reshape(len(blocks), -1), blocks[:, -1, -rest:]], axis=1)


def _interpreter() -> Any:
    # JAX 0.10 does not have a public name for it
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    return InterpretGPUParams(detect_races=True)
