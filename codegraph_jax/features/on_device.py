"""The layers of a run as they stay on one device, put together batch by batch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.sizes import padded
from codegraph_jax.core.transfers import filled, to_device, to_host


class DeviceLayer:
    """Patch tokens of one layer [n, p, c], the first n rows of a longer array on a device.

    It is read as an array is. How long the array is depends on n in few steps, and so do the programs that take it.
    """

    def __init__(self, rows: Float[Array, "s p c"], count: int):
        self.rows, self.count = rows, count

    @property
    def shape(self) -> tuple[int, int, int]:
        _, patches, channels = self.rows.shape
        return self.count, patches, channels

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, images: Any) -> Array:
        """Tokens of an image, or of several."""
        if isinstance(images, int | np.integer):
            return self.of(np.array([images]))[0]
        chosen = np.arange(self.count)[images]
        return self.of(chosen)[: len(chosen)]

    def of(self, images: Int[np.ndarray, " b"]) -> Float[Array, "a p c"]:
        """Tokens of some images, and of the first one again up to a number that recurs: few programs serve."""
        (device,) = self.rows.devices()
        chosen = np.zeros(padded(len(images)), np.int32)
        chosen[: len(images)] = images
        return _images(self.rows, to_device(chosen, device))

    def weighted(
        self, images: Int[np.ndarray, " b"], weights: Float[np.ndarray, "b q p"]
    ) -> Float[np.ndarray, "b q c"]:
        """Weighted sums of the tokens of some images, on the host."""
        (device,) = self.rows.devices()
        given = np.zeros((padded(len(images)), *weights.shape[1:]), np.float32)
        given[: len(images)] = weights
        return to_host(_weighted(self.of(images), to_device(given, device)))[: len(images)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = to_host(self.rows)[: self.count]
        return values if dtype is None else values.astype(dtype)

    def __jax_array__(self) -> Array:
        return self.rows[: self.count]

    def where(self, judged: Bool[np.ndarray, "n p"]) -> "DeviceLayer":
        """The same with tokens of 0 where patches are not judged."""
        counts = np.zeros(self.rows.shape[:2], bool)
        counts[: self.count] = judged
        (device,) = self.rows.devices()
        return DeviceLayer(_where(self.rows, to_device(counts, device)), self.count)


class DeviceLayers:
    """Takes the layers of batches, in any order, and gives each as one array."""

    def __init__(self, rows: int, device: jax.Device):
        """
        Args:
            rows: of the arrays, one for each image of the run at least.
            device: where they stay.
        """
        self._size, self._device = rows, device
        self._layers: list[Array] = []

    def keep(self, places: Int[np.ndarray, " v"], layers: Sequence[Any]) -> None:
        """Takes a batch [b, p, c], of which the first v images count, at their places in the run."""
        if not self._layers:
            shapes = [(self._size, *layer.shape[1:]) for layer in layers]
            self._layers = [filled(s, 0, layer.dtype, self._device) for s, layer in zip(shapes, layers)]
        # what fills a batch up has no place
        there = np.full(len(layers[0]), self._size, np.int32)
        there[: len(places)] = places
        where = to_device(there, self._device)
        for number, layer in enumerate(layers):
            batch = to_device(layer, self._device) if isinstance(layer, np.ndarray) else layer
            self._layers[number] = _put(self._layers[number], batch, where)

    def joined(self, places: Int[np.ndarray, " k"]) -> list[DeviceLayer]:
        """Every layer, of the images at these places, which ascend."""
        if len(places) and places[-1] >= len(places):
            # some could not be read, or are copies
            chosen = np.zeros(self._size, np.int32)
            chosen[: len(places)] = places
            there = to_device(chosen, self._device)
            for number, rows in enumerate(self._layers):
                self._layers[number] = _images(rows, there)
        return [DeviceLayer(rows, len(places)) for rows in self._layers]


@partial(jax.jit, donate_argnums=0)
def _put(rows: Float[Array, "s p c"], batch: Float[Array, "b p c"], places: Int[Array, " b"]) -> Float[Array, "s p c"]:
    return rows.at[places].set(batch, mode="drop")


@jax.jit
def _images(rows: Float[Array, "s p c"], images: Int[Array, " b"]) -> Float[Array, "b p c"]:
    return rows[images]


@jax.jit
def _weighted(tokens: Float[Array, "b p c"], weights: Float[Array, "b q p"]) -> Float[Array, "b q c"]:
    def of(given: tuple[Array, Array]) -> Array:
        own, some = given
        return jnp.matmul(some, own.astype(jnp.float32), precision=lax.Precision.HIGHEST)

    return lax.map(of, (tokens, weights))


@partial(jax.jit, donate_argnums=0)
def _where(rows: Float[Array, "s p c"], judged: Bool[Array, "s p"]) -> Float[Array, "s p c"]:
    return jnp.where(judged[..., None], rows, 0)
