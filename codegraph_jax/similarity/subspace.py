"""Distances in fewer channels: those in which the tokens of a set vary, of each layer its own. [ours]

Products of all patches with all others are most of a run's work, and grow with the channels. Tokens of one product lie
near a subspace of far fewer: of their second moment (nothing is subtracted, since it is inner products that count) a
half of the channels holds 99.7 % and more. What is left out adds up to a little distance that all patches have, near or
far. BENCHMARKS.md, "Fewer channels", holds accuracy against time.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegraph_jax.core.arrays import Allocate, at_once
from codegraph_jax.core.transfers import to_device
from codegraph_jax.distributed import processes
from codegraph_jax.features.extraction import Features
from codegraph_jax.features.on_device import DeviceLayer

TOKENS = 2**15
"""Tokens of the set that a subspace is made of, about."""

STEP = 32
"""Channels come in multiples of this, as products like them."""


def in_subspaces(features: Features, variance: float, allocate: Allocate) -> list[Any]:
    """The tokens of every layer in the channels of its subspace, in every process the same subspaces.

    Args:
        features: of n images.
        variance: share of the tokens' second moment that a subspace holds at least.
        allocate: makes the arrays of layers that are on the host.

    Returns:
        Of each layer tokens [k, p, d] of the images of this process, of the type and in the place of the others.
    """
    places = _sample(features)
    found = []
    for layer in features.layers:
        basis = _basis(_taken(layer, places), variance)
        channels, fewer = basis.shape
        found.append(_projected(layer, basis, allocate) if fewer < channels else layer)
    return found


def _sample(features: Features) -> Int[np.ndarray, "k t"]:
    """Patches of each image of this process, t of them, chosen by its content: no order of the images matters."""
    patches = features.layers[0].shape[1]
    each = max(1, min(patches, TOKENS // max(1, len(features.keys))))
    start = sum(features.counts[: jax.process_index()])
    own = features.keys[start : start + features.counts[jax.process_index()]]
    first = np.array([int.from_bytes(key[:4], "big") % patches for key in own], int)
    return (first[:, None] + np.arange(each) * patches // each) % patches


def _taken(layer: Any, places: Int[np.ndarray, "k t"]) -> Float[np.ndarray, "s c"]:
    """Tokens of a layer."""
    if isinstance(layer, DeviceLayer):
        taken = layer.patches(places)
    else:
        taken = np.asarray(layer[np.arange(len(places))[:, None], places])
    return taken.reshape(-1, layer.shape[2]).astype(np.float64)


def _basis(tokens: Float[np.ndarray, "s c"], variance: float) -> Float[np.ndarray, "c d"]:
    """Orthonormal directions that hold the share of the second moment of the tokens of all processes."""
    moment = processes.gather_rows((tokens.T @ tokens)[None]).sum(axis=0)
    values, directions = np.linalg.eigh(moment)
    held = np.cumsum(np.maximum(values[::-1], 0))
    wanted = int(np.searchsorted(held, variance * held[-1])) + 1
    channels = min(-(-wanted // STEP) * STEP, len(moment))
    return directions[:, ::-1][:, :channels].astype(np.float32)


def _projected(layer: Any, basis: Float[np.ndarray, "c d"], allocate: Allocate) -> Any:
    """A layer in other channels."""
    channels, fewer = basis.shape
    if isinstance(layer, DeviceLayer):
        (device,) = layer.rows.devices()
        return DeviceLayer(_product(layer.rows, to_device(basis, device)), len(layer))
    if isinstance(layer, jax.Array):
        return _product(layer, basis)
    found = allocate((*layer.shape[:2], fewer), layer.dtype)
    size = at_once(4 * layer.shape[1] * channels)
    for start in range(0, len(layer), size):
        found[start : start + size] = np.asarray(_product(jnp.asarray(layer[start : start + size]), basis))
    return found


@jax.jit
def _product(tokens: Float[Array, "n p c"], basis: Float[Array, "c d"]) -> Float[Array, "n p d"]:
    def of(image: Float[Array, "p c"]) -> Float[Array, "p d"]:
        found = jnp.matmul(image.astype(jnp.float32), basis, precision=lax.Precision.HIGHEST)
        return found.astype(tokens.dtype)

    # one image at a time: how a sum is rounded must not depend on how many there are
    return lax.map(of, tokens)
