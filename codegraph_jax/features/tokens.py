"""Patch tokens of whole photos, from one call of the backbone or blended from tiles."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from codegraph_jax.backbones import Backbone
from codegraph_jax.data.frame import Frame
from codegraph_jax.features.aggregation import normalise


def image_tokens(
    backbone: Backbone, frame: Frame, params: Any, images: Float[Array, "b y x 3"], covered: Bool[Array, "b p"] | None
) -> tuple[list[Float[Array, "b p c"]], Float[Array, "b d"]]:
    """Normalised patch tokens of every layer, and image features; a pure function that can be jitted.

    Tiles are blended before a layer is normalised, so that mean and variance are those of the whole photo. The image
    feature of a photo is the mean over its tiles.

    Args:
        backbone: see `codegraph_jax.backbones`.
        frame: frame of the images.
        params: parameters of the backbone.
        images: preprocessed images of the frame's size, see `Frame.place`.
        covered: patches that belong to the photos; None: all.
    """
    if len(frame.tiles()) == 1:
        out = backbone.apply(params, images)
        layers, image_features = out["blocks"], out["image"]
    else:
        layers, image_features = _tiled(backbone, frame, params, images)
    return [normalise(layer, covered) for layer in layers], image_features


def _tiled(
    backbone: Backbone, frame: Frame, params: Any, images: Float[Array, "b y x 3"]
) -> tuple[list[Float[Array, "b p c"]], Float[Array, "b d"]]:
    tiles, batch, width = frame.tiles(), len(images), backbone.preset.width
    rows, columns = (tiles[0][axis].stop for axis in (0, 1))
    weights = np.outer(_ramp(rows, frame.overlap), _ramp(columns, frame.overlap))
    total = np.zeros(frame.grid, np.float32)
    for tile in tiles:
        total[tile] += weights
    corners = jnp.array([(tile[0].start, tile[1].start) for tile in tiles])
    pixels = (batch, rows * frame.patch, columns * frame.patch, 3)
    image_width = backbone.preset.architecture.projection or width

    def add(sums: tuple[list[Array], Array], corner: Array) -> tuple[tuple[list[Array], Array], None]:
        top, left = corner
        tile = lax.dynamic_slice(images, (0, top * frame.patch, left * frame.patch, 0), pixels)
        out = backbone.apply(params, tile)
        layers = []
        for layer, block in zip(sums[0], out["blocks"]):
            weighted = block.reshape(batch, rows, columns, width) * weights[..., None]
            here = lax.dynamic_slice(layer, (0, top, left, 0), weighted.shape)
            layers.append(lax.dynamic_update_slice(layer, here + weighted, (0, top, left, 0)))
        return (layers, sums[1] + out["image"]), None

    nothing = [jnp.zeros((batch, *frame.grid, width)) for _ in backbone.blocks]
    (layers, image_features), _ = lax.scan(add, (nothing, jnp.zeros((batch, image_width))), corners)
    blended = [(layer / total[..., None]).reshape(batch, -1, width) for layer in layers]
    return blended, image_features / len(tiles)


def _ramp(cells: int, overlap: int) -> Float[np.ndarray, " cells"]:
    """Blending weights along a side of a tile; smaller near the edges, where tokens have less context."""
    place = np.arange(cells)
    return (np.minimum(np.minimum(place, cells - 1 - place), overlap) + 1).astype(np.float32)
