"""Layers of patch tokens that stay on one device, collected batch by batch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import padded_size, zero_padded
from codegraph_jax.core.transfers import filled, to_device, to_host


class DeviceLayer:
    """Patch tokens of one layer [n, p, c]: the first n images of a longer array on a device, indexed like an array.

    The array length depends on n in coarse steps, so that few programs are compiled.

    Attributes:
        values: the whole array.
        count: n.
    """

    def __init__(self, values: Float[Array, "s p c"], count: int):
        self.values, self.count = values, count

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, p, c)."""
        _, patches, channels = self.values.shape
        return self.count, patches, channels

    @property
    def dtype(self) -> Any:
        """Type of the tokens."""
        return self.values.dtype

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, images: Any) -> Array:
        """Tokens of one or several images."""
        if isinstance(images, int | np.integer):
            return self.select(np.array([images]))[0]
        chosen = np.arange(self.count)[images]
        return self.select(chosen)[: len(chosen)]

    def select(self, images: Int[np.ndarray, " b"]) -> Float[Array, "a p c"]:
        """Tokens of some images, padded with those of image 0 to one of a few lengths."""
        (device,) = self.values.devices()
        chosen = zero_padded(np.asarray(images, np.int32), padded_size(len(images)))
        return _selected(self.values, to_device(chosen, device))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = to_host(self.values)[: self.count]
        return values if dtype is None else values.astype(dtype)

    def __jax_array__(self) -> Array:
        return self.values[: self.count]


class DeviceFeatureBuffer:
    """Collects the layers of batches, in any order, in one array per layer.

    Args:
        length: length of the arrays, at least the number of images.
        device: device of the arrays.
    """

    def __init__(self, length: int, device: jax.Device):
        self._size, self._device = length, device
        self._layers: list[Array] = []

    def add(self, indices: Int[np.ndarray, " v"], layers: Sequence[Any]) -> None:
        """Adds the first v images of a batch [b, p, c] at `indices`."""
        if not self._layers:
            shapes = [(self._size, *layer.shape[1:]) for layer in layers]
            self._layers = [filled(s, 0, layer.dtype, self._device) for s, layer in zip(shapes, layers)]
        # the padding of a batch gets an index beyond the end, which is dropped
        padded_indices = np.full(len(layers[0]), self._size, np.int32)
        padded_indices[: len(indices)] = indices
        where = to_device(padded_indices, self._device)
        for number, layer in enumerate(layers):
            batch = to_device(layer, self._device) if isinstance(layer, np.ndarray) else layer
            self._layers[number] = _put(self._layers[number], batch, where)

    def keep(self, indices: Int[np.ndarray, " k"]) -> list[DeviceLayer]:
        """Keeps only the images at `indices` (ascending), and returns the layers."""
        if len(indices) and indices[-1] >= len(indices):
            # some images are missing: they could not be read, or are copies
            where = to_device(zero_padded(indices.astype(np.int32), self._size), self._device)
            for number, values in enumerate(self._layers):
                self._layers[number] = _selected(values, where)
        return [DeviceLayer(values, len(indices)) for values in self._layers]


def zero_outside(layer: Any, inspected: Bool[np.ndarray, "n p"]) -> Any:
    """A layer [n, p, c] with the tokens of patches that are not inspected set to 0, in place."""
    if isinstance(layer, DeviceLayer):
        (device,) = layer.values.devices()
        mask = to_device(zero_padded(inspected, len(layer.values)), device)
        return DeviceLayer(_zeroed(layer.values, mask), layer.count)
    # image by image: a layer may be a memory-mapped file
    for tokens, patches in zip(layer, inspected):
        tokens[~patches] = 0
    return layer


def tokens_of(layer: Any, images: Int[np.ndarray, " b"]) -> Array | np.ndarray:
    """Tokens of some images of a layer [n, p, c]; those of a `DeviceLayer` are padded as by `DeviceLayer.select`."""
    return layer.select(images) if isinstance(layer, DeviceLayer) else np.asarray(layer[images])


def weighted_tokens(
    layer: Any, images: Int[np.ndarray, " b"], weights: Float[np.ndarray, "b q p"]
) -> Float[np.ndarray, "b q c"]:
    """Weighted sums of the tokens of some images of a layer [n, p, c], on the host."""
    if isinstance(layer, DeviceLayer):
        (device,) = layer.values.devices()
        given = zero_padded(weights.astype(np.float32), padded_size(len(images)))
        return to_host(_weighted(layer.select(images), to_device(given, device)))[: len(images)]
    sums = [of_image @ np.asarray(layer[int(image)], np.float32) for image, of_image in zip(images, weights)]
    return np.array(sums, np.float32).reshape(*weights.shape[:2], layer.shape[2])


def tokens_on_device(device: jax.Device, layer: Any, images: slice, length: int) -> Float[Array, "s p c"]:
    """Tokens of some images of a layer on a device, padded to `length` images with undefined values.

    Args:
        device: device of the result; no copy is made if the layer is there already.
        layer: layer [n, p, c]: an array on the host or on a device, or a `DeviceLayer`.
        images: range of images.
        length: number of images s of the result.
    """
    source = layer.values if isinstance(layer, DeviceLayer) else layer
    if isinstance(source, jax.Array) and source.devices() == {device}:
        if images.start == 0 and len(source) == length:
            return source
        if images.stop - images.start == length:
            return source[images]
    return to_device(tokens_on_host(layer, images, length), device)


def tokens_on_host(layer: Any, images: slice, length: int) -> Float[np.ndarray, "s p c"]:
    """Tokens of some images of a layer on the host, padded to `length` images with zeros."""
    values = np.asarray(layer if images == slice(0, len(layer)) else layer[images])
    return values if len(values) == length else zero_padded(values, length)


@partial(jax.jit, donate_argnums=0)
def _put(into: Float[Array, "s p c"], batch: Float[Array, "b p c"], indices: Int[Array, " b"]) -> Float[Array, "s p c"]:
    return into.at[indices].set(batch, mode="drop")


@jax.jit
def _selected(values: Float[Array, "s p c"], images: Int[Array, " b"]) -> Float[Array, "b p c"]:
    return values[images]


@jax.jit
def _weighted(tokens: Float[Array, "b p c"], weights: Float[Array, "b q p"]) -> Float[Array, "b q c"]:
    def weighted_sums(given: tuple[Array, Array]) -> Array:
        image, image_weights = given
        return jnp.matmul(image_weights, image.astype(jnp.float32), precision=lax.Precision.HIGHEST)

    return lax.map(weighted_sums, (tokens, weights))


@partial(jax.jit, donate_argnums=0)
def _zeroed(values: Float[Array, "s p c"], inspected: Bool[Array, "s p"]) -> Float[Array, "s p c"]:
    return jnp.where(inspected[..., None], values, 0)
