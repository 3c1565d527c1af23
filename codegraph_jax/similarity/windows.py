"""Compares patches only with those within a radius, for parts that are in the same position in all photos.

A patch of one image is compared with patches of the other image at most `radius` cells away along either axis. A grid
is cut into blocks of cells. One product compares the patches of a block with the window of the other grid that extends
`radius` cells beyond the block on every side; a fixed penalty excludes pairs beyond the radius. Each pair belongs to
one block, so that one product gives both directions.
"""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegraph_jax.core.matmul import inner_products

COPY_COST = 80
"""Cost of copying one patch of a window, in products of two patches; measured on two cores for 384 channels."""
MAX_BLOCK = 32
"""Largest side of a block that is tried, in cells."""


class Axis(NamedTuple):
    """Blocks and windows along one axis of the grid, in cells; windows begin `margin` cells before their blocks."""

    cells: int
    block: int
    blocks: int
    window: int
    margin: int

    @classmethod
    def of(cls, cells: int, block: int, radius: int) -> "Axis":
        """Blocks of a given size; a single one if they are as large as the grid."""
        if block >= cells:
            return cls(cells, cells, 1, cells, 0)
        return cls(cells, block, -(-cells // block), block + 2 * radius, radius)

    @property
    def overhang(self) -> int:
        """Number of cells by which the last block extends beyond the grid."""
        return self.blocks * self.block - self.cells

    @property
    def strips(self) -> int:
        """Largest number of blocks that a window overlaps."""
        return -(-self.window // self.block)


@lru_cache(maxsize=64)
def cheapest_blocks(grid: tuple[int, int], radius: int) -> tuple[Axis, Axis]:
    """Both axes of the grid, with the block size of the lowest cost."""

    def cost(block: int) -> float:
        rows, columns = (Axis.of(cells, block, radius) for cells in grid)
        product = rows.block * columns.block * rows.window * columns.window
        copies = COPY_COST * rows.window * columns.window
        return rows.blocks * columns.blocks * (product + copies)

    best = min(range(4, MAX_BLOCK + 1), key=cost)
    return Axis.of(grid[0], best, radius), Axis.of(grid[1], best, radius)


def products_of_a_pair(grid: tuple[int, int], radius: int) -> int:
    """Number of inner products of patches that are computed for two images."""
    rows, columns = cheapest_blocks(grid, radius)
    return rows.blocks * columns.blocks * rows.block * columns.block * rows.window * columns.window


def radius_penalty(
    first: Int[np.ndarray, "2 ..."], second: Int[np.ndarray, "2 ..."], radius: int
) -> Float[np.ndarray, "a b"]:
    """0 where two cells, given by row and column, are within the radius, else minus infinity."""
    separations = np.abs(first.reshape(2, -1, 1) - second.reshape(2, 1, -1)).max(axis=0)
    return np.where(separations <= radius, 0.0, -np.inf).astype(np.float32)


def window_maxima(
    left: Float[Array, "p c"],
    right: Float[Array, "p c"],
    left_penalty: Float[Array, " p"],
    right_penalties: Float[Array, "q p"],
    grid: tuple[int, int],
    radius: int,
    precision: str,
    blocks_per_product: int,
) -> tuple[Float[Array, "q p"], Float[Array, " p"]]:
    """Greatest cosine of each patch with any patch of the other image within the radius; minus infinity without any.

    `left` and `right` are unit vectors of a grid, row by row. Penalties are 0, or minus infinity for patches that are
    not compared with the other image; the right image has q of them. One product has `blocks_per_product` blocks.

    Returns:
        The maxima of the left patches for each penalty of the right ones, and the maxima of the right patches.
    """
    rows, columns = axes = cheapest_blocks(grid, radius)
    left_padding = [(0, axis.overhang) for axis in axes]
    right_padding = [(axis.margin, axis.overhang + axis.margin) for axis in axes]
    left_grid = jnp.pad(left.reshape(*grid, -1), (*left_padding, (0, 0)))
    right_grid = jnp.pad(right.reshape(*grid, -1), (*right_padding, (0, 0)))
    left_penalty_grid = jnp.pad(left_penalty.reshape(grid), left_padding, constant_values=-np.inf)
    right_penalty_grids = jnp.pad(right_penalties.reshape(-1, *grid), ((0, 0), *right_padding), constant_values=-np.inf)
    q, channels = len(right_penalties), left.shape[1]
    margins = np.array([rows.margin, columns.margin]).reshape(2, 1, 1)
    window_cells = np.indices((rows.window, columns.window)) - margins
    penalty = radius_penalty(np.indices((rows.block, columns.block)), window_cells, radius)

    def one_block(block: tuple[Array, Array]) -> tuple[Array, Array]:
        top, start = block[0] * rows.block, block[1] * columns.block
        own = lax.dynamic_slice(left_grid, (top, start, 0), (rows.block, columns.block, channels))
        window = lax.dynamic_slice(right_grid, (top, start, 0), (rows.window, columns.window, channels))
        own_penalty = lax.dynamic_slice(left_penalty_grid, (top, start), (rows.block, columns.block))
        window_penalties = lax.dynamic_slice(
            right_penalty_grids, (0, top, start), (q, rows.window, columns.window)
        ).reshape(q, -1)
        cosines = inner_products(own.reshape(-1, channels), window.reshape(-1, channels), precision) + penalty
        of_rows = jnp.stack([(cosines + penalties).max(axis=1) for penalties in window_penalties])
        return of_rows, (cosines + own_penalty.reshape(-1, 1)).max(axis=0)

    blocks = jnp.indices((rows.blocks, columns.blocks)).reshape(2, -1)
    of_rows, of_columns = lax.map(
        one_block, (blocks[0], blocks[1]), batch_size=blocks_per_product if blocks_per_product > 1 else None
    )
    return _joined(of_rows, axes), _overlaid(of_columns, axes).reshape(-1)


def _joined(of_rows: Float[Array, "b q u"], axes: tuple[Axis, Axis]) -> Float[Array, "q p"]:
    """The maxima of all blocks, joined to a grid."""
    rows, columns = axes
    q = of_rows.shape[1]
    values = of_rows.reshape(rows.blocks, columns.blocks, q, rows.block, columns.block).transpose(2, 0, 3, 1, 4)
    grid = values.reshape(q, rows.blocks * rows.block, columns.blocks * columns.block)
    return grid[:, : rows.cells, : columns.cells].reshape(q, -1)


def _overlaid(of_columns: Float[Array, "b v"], axes: tuple[Axis, Axis]) -> Float[Array, "h w"]:
    """The maxima of all windows, which overlap, joined to a grid."""
    rows, columns = axes
    windows = of_columns.reshape(rows.blocks, columns.blocks, rows.window, columns.window)
    # cut every window into strips as long as a block: strips with the same number do not overlap
    fill = [(0, axis.strips * axis.block - axis.window) for axis in axes]
    windows = jnp.pad(windows, ((0, 0), (0, 0), *fill), constant_values=-np.inf)
    size = [(axis.blocks + axis.strips - 1) * axis.block for axis in axes]
    grid = jnp.full(size, -np.inf, jnp.float32)
    for a in range(rows.strips):
        for b in range(columns.strips):
            strip = windows[:, :, a * rows.block : (a + 1) * rows.block, b * columns.block : (b + 1) * columns.block]
            part = strip.transpose(0, 2, 1, 3).reshape(rows.blocks * rows.block, columns.blocks * columns.block)
            here = (slice(a * rows.block, None), slice(b * columns.block, None))
            target = tuple(slice(s.start, s.start + n) for s, n in zip(here, part.shape))
            grid = grid.at[target].max(part)
    return grid[rows.margin : rows.margin + rows.cells, columns.margin : columns.margin + columns.cells]
