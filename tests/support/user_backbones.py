"""A network of a user, once for JAX and once in NumPy, and a detector with it."""

from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from PIL import Image

from codegraph_jax import CoDeGraph, Config
from codegraph_jax.config import DataConfig
from codegraph_jax.data.frame import Frame

PATCH, SIZE = 8, 32
RANDOM = np.random.default_rng(0)
FILTERS = tuple(RANDOM.standard_normal((PATCH * PATCH * 3, width), np.float32) / 8 for width in (24, 16))


def patches(images, xp):
    """The pixels of each patch [n, p, PATCH * PATCH * 3]."""
    n, height, width, _ = images.shape
    cells = images.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return xp.moveaxis(cells, 3, 2).reshape(n, -1, PATCH * PATCH * 3)


@flax.struct.dataclass
class Traced:
    """Two layers of different widths, which JAX traces."""

    filters: tuple[Any, ...] = FILTERS
    weights_name: str = flax.struct.field(pytree_node=False, default="filters 1")
    patch_size: int = flax.struct.field(pytree_node=False, default=PATCH)
    mean: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(0.5, 0.5, 0.5))
    std: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(0.25, 0.25, 0.25))

    def __call__(self, images):
        layers = [jnp.tanh(jnp.matmul(patches(images, jnp), own, precision="highest")) for own in self.filters]
        return layers, layers[0].max(axis=1)


def placed(image):
    return Frame.squeezed(SIZE, PATCH).preprocess(Image.fromarray(image), "bilinear", (0.5,) * 3, (0.25,) * 3)


class Numpy:
    """The same network without JAX."""

    weights_name, patch_size, mean, std = "filters 1", PATCH, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    image_size = SIZE

    def __call__(self, images):
        assert type(images) is np.ndarray and images.dtype == np.float32
        layers = [np.tanh(patches(images, np) @ own) for own in FILTERS]
        return layers, layers[0].max(axis=1)


def detector(network, **settings):
    config = Config(data=DataConfig(unreadable="error"), **settings)
    return CoDeGraph(config, backbone=network, image_size=SIZE)
