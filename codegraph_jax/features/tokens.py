"""Patch tokens of whole photos, from one call of the backbone or blended from tiles."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.data.frame import Frame
from codegraph_jax.features.aggregation import normalised_layers


def image_tokens(
    backbone: LoadedBackbone, frame: Frame, images: Float[Array, "b y x 3"], covered: Bool[Array, "b p"] | None
) -> tuple[list[Float[Array, "b p c"]], Float[Array, "b d"]]:
    """Normalised patch tokens of every layer, and image features; a pure function that can be jitted.

    Tiles are blended before a layer is normalised, so that mean and variance are those of the whole photo. The image
    feature of a photo is the mean over its tiles.
    """
    if len(frame.tiles()) == 1:
        layers, image_features = backbone(images)
    else:
        layers, image_features = _tiled(backbone, frame, images)
    return normalised_layers(layers, covered), image_features


def host_tokens(
    backbone: LoadedBackbone, frame: Frame, images: Float[np.ndarray, "b y x 3"]
) -> tuple[list[Float[np.ndarray, "b p c"]], Float[np.ndarray, "b d"]]:
    """Patch tokens, before they are normalised, and image features of a backbone that JAX cannot trace."""
    tiles, batch = frame.tiles(), len(images)
    if len(tiles) == 1:
        return backbone(images)
    weights, total = _blending(frame)
    sums = [np.zeros((batch, *frame.grid, width), np.float32) for width in backbone.widths]
    image_features = []
    for tile in tiles:
        rows, columns = (slice(side.start * frame.patch_size, side.stop * frame.patch_size) for side in tile)
        layers, image = backbone(np.ascontiguousarray(images[:, rows, columns]))
        image_features.append(image)
        for layer, block in zip(sums, layers):
            layer[:, *tile] += block.reshape(batch, *weights.shape, -1) * weights[..., None]
    blended = [(layer / total[..., None]).reshape(batch, -1, layer.shape[-1]) for layer in sums]
    return blended, np.mean(image_features, axis=0)


def _tiled(
    backbone: LoadedBackbone, frame: Frame, images: Float[Array, "b y x 3"]
) -> tuple[list[Float[Array, "b p c"]], Float[Array, "b d"]]:
    tiles, batch = frame.tiles(), len(images)
    weights, total = _blending(frame)
    rows, columns = weights.shape
    corners = jnp.array([(tile[0].start, tile[1].start) for tile in tiles])
    pixels = (batch, rows * frame.patch_size, columns * frame.patch_size, 3)

    def add(sums: list[Array], corner: Array) -> tuple[list[Array], Array]:
        top, left = corner
        tile = lax.dynamic_slice(images, (0, top * frame.patch_size, left * frame.patch_size, 0), pixels)
        blocks, image = backbone(tile)
        layers = []
        for layer, block in zip(sums, blocks):
            weighted = block.reshape(batch, rows, columns, -1) * weights[..., None]
            here = lax.dynamic_slice(layer, (0, top, left, 0), weighted.shape)
            layers.append(lax.dynamic_update_slice(layer, here + weighted, (0, top, left, 0)))
        return layers, image

    nothing = [jnp.zeros((batch, *frame.grid, width)) for width in backbone.widths]
    layers, image_features = lax.scan(add, nothing, corners)
    blended = [(layer / total[..., None]).reshape(batch, -1, layer.shape[-1]) for layer in layers]
    return blended, image_features.mean(axis=0)


def _blending(frame: Frame) -> tuple[Float[np.ndarray, "a b"], Float[np.ndarray, "h w"]]:
    """The blending weights of the patches of a tile, and their sums over all tiles."""
    tiles = frame.tiles()
    rows, columns = (tiles[0][axis].stop for axis in (0, 1))
    weights = np.outer(_ramp(rows, frame.overlap), _ramp(columns, frame.overlap))
    total = np.zeros(frame.grid, np.float32)
    for tile in tiles:
        total[tile] += weights
    return weights, total


def _ramp(cells: int, overlap: int) -> Float[np.ndarray, " cells"]:
    """Blending weights along a side of a tile; smaller near the edges, where tokens have less context."""
    cell = np.arange(cells)
    return (np.minimum(np.minimum(cell, cells - 1 - cell), overlap) + 1).astype(np.float32)
