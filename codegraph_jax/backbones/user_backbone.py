"""Wraps a network of the user: checks its attributes, and finds the widths of its layers by one call."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codegraph_jax.backbones.errors import BackboneError
from codegraph_jax.backbones.protocol import Backbone, LoadedBackbone
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.user_code import user_object
from codegraph_jax.data.images import RESAMPLE

MAX_DEFAULT_SIZE = 518
"""Upper limit of the default image size in pixels, as for presets."""
REQUIRED = ("weights_name", "patch_size", "mean", "std")


@dataclass(frozen=True, eq=False, kw_only=True)
class UserBackbone(LoadedBackbone):
    """A network that implements `Backbone`; `discriminative` if it gives image features of its own.

    Attributes:
        network: the given object.
    """

    network: Any

    @classmethod
    def of(cls, network: Backbone, image_size: int) -> "UserBackbone":
        """Checks a network, and calls it once on an image of this side in pixels (without computing, if JAX can).

        0 stands for the network's default size.

        Raises:
            ConfigError: an attribute is missing or invalid.
            BackboneError: the output has a wrong form.
        """
        weights_name, patch_size, mean, std, resample = _attributes(network)
        on_host = jax.tree_util.all_leaves([network])
        stated = getattr(network, "image_size", 0)
        largest = max(MAX_DEFAULT_SIZE // patch_size, 1) * patch_size
        default_size = stated if isinstance(stated, int) and stated > 0 else largest
        # the caller refuses a size that is not a multiple of the patch size, and names the nearest ones
        image_size = max(1, (image_size or default_size) // patch_size) * patch_size
        draft = cls(
            name=weights_name, weights_name=weights_name, patch_size=patch_size, mean=mean, std=std, resample=resample,
            image_size=default_size, discriminative=True, blocks=(), widths=(), on_host=on_host,
            network=network,
        )  # fmt: skip
        if on_host:
            layers, image = draft._checked_output(np.zeros((1, image_size, image_size, 3), np.float32))
        else:
            _require_static(network)
            blank = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
            layers, image = jax.eval_shape(lambda backbone, images: backbone._checked_output(images), draft, blank)
        widths = tuple(int(layer.shape[2]) for layer in layers)
        return replace(draft, discriminative=image is not None, blocks=tuple(range(len(widths))), widths=widths)

    def __call__(self, images: Any) -> tuple[list[Any], Any]:
        """The layers [n, p, c], and image features [n, d]: those of the network, or the mean of its last layer."""
        layers, image = self._checked_output(images)
        return layers, layers[-1].mean(axis=1) if image is None else image

    def _checked_output(self, images: Any) -> tuple[list[Any], Any]:
        """The output of the network in float32, after its form is checked; image features may be None."""
        output = self.network(images)
        if not isinstance(output, tuple) or len(output) != 2 or not isinstance(output[0], Sequence) or not output[0]:
            raise self._error(
                f"returns {_described(output)}; return a tuple (layers, image_features): a list of at least one "
                "array [n, p, c], and an array [n, d] or None"
            )
        convert = _as_numpy if self.on_host else jnp.asarray
        layers = [convert(layer).astype(np.float32) for layer in output[0]]
        image = None if output[1] is None else convert(output[1]).astype(np.float32)
        count, height, width = images.shape[:3]
        patches = height // self.patch_size * (width // self.patch_size)
        for number, layer in enumerate(layers):
            if layer.ndim != 3 or layer.shape[:2] != (count, patches) or not layer.shape[2]:
                raise self._error(
                    f"layer {number} has shape {list(layer.shape)}; {count} images of {height} x {width} px have "
                    f"{patches} patches of {self.patch_size} px each: return [{count}, {patches}, c], row by row and "
                    "without class token"
                )
        if image is not None and (image.ndim != 2 or len(image) != count):
            raise self._error(f"image features have shape {list(image.shape)}; return [{count}, d] or None")
        return layers, image

    def _error(self, problem: str) -> BackboneError:
        return BackboneError(f"the backbone {self.weights_name!r} cannot be used: {problem}")

    def flop(self, rows: int, columns: int) -> float:
        """Floating-point operations for one image of `rows` x `columns` patches by XLA's count; 0: not known."""
        if self.on_host:
            return 0.0
        shape = (1, rows * self.patch_size, columns * self.patch_size, 3)
        lowered = jax.jit(lambda backbone, images: backbone(images)).lower(
            self, jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        return float((lowered.cost_analysis() or {}).get("flops", 0.0))


FIELDS = [one.name for one in fields(UserBackbone) if one.name != "network"]


def _flatten(backbone: UserBackbone) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    values, network = tuple(getattr(backbone, name) for name in FIELDS), backbone.network
    # a network that JAX cannot trace is no child: it has no arrays that JAX could place
    return ((), (network, values)) if backbone.on_host else ((network,), (None, values))


def _unflatten(about: tuple[Any, ...], children: tuple[Any, ...]) -> UserBackbone:
    network, values = about
    return UserBackbone(network=children[0] if children else network, **dict(zip(FIELDS, values)))


jax.tree_util.register_pytree_node(UserBackbone, _flatten, _unflatten)


def imported_backbone(name: str) -> Backbone:
    """The backbone at FILE.py:NAME or MODULE:NAME; classes and functions are called without arguments.

    Raises:
        ConfigError: there is no such file, module or object.
    """
    setting = "config.backbone.name"
    with user_object(name, setting) as found:
        if not isinstance(found, type) and hasattr(found, "patch_size"):
            return found
        if not callable(found):
            raise ConfigError(
                f"{setting}: {name!r} is {_described(found)}, neither a backbone nor a function or class that makes one"
            )
        return found()


def _attributes(network: Backbone) -> tuple[str, int, tuple[float, ...], tuple[float, ...], str]:
    """The attributes of a network, checked."""
    missing = [name for name in REQUIRED if not hasattr(network, name)] + ["__call__"] * (not callable(network))
    if missing:
        raise ConfigError(
            f"config.backbone: {_described(network)} has no {' and no '.join(missing)}; a backbone has "
            f"{', '.join(REQUIRED)} and __call__ (docs/research.md)"
        )
    weights_name, patch_size = network.weights_name, network.patch_size
    resample = getattr(network, "resample", "bilinear")
    if not isinstance(weights_name, str) or not weights_name:
        raise ConfigError(f"config.backbone: weights_name is {weights_name!r}; name network and weights in a text")
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1:
        raise ConfigError(f"config.backbone: patch_size is {patch_size!r}; give pixels, 1 or more")
    if resample not in RESAMPLE:
        raise ConfigError(f"config.backbone: resample is {resample!r}, not one of {', '.join(RESAMPLE)}")
    colours = []
    for name in ("mean", "std"):
        try:
            values = tuple(float(value) for value in getattr(network, name))
        except (TypeError, ValueError):
            values = ()
        if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
            raise ConfigError(
                f"config.backbone: {name} is {getattr(network, name)!r}; give three numbers for red, green and blue"
                + (" above 0" if name == "std" else "")
            )
        colours.append(values)
    return weights_name, patch_size, colours[0], colours[1], resample


def _require_static(network: Any) -> None:
    """Checks that JAX can compare the parts of a pytree that are not arrays."""
    nodes: list[Any] = [jax.tree.structure(network)]
    while nodes:
        node = nodes.pop()
        nodes += node.children()
        try:
            kind, static = node.node_data() or (None, None)
            # the keys of a dict are a list
            hash((kind, tuple(static) if isinstance(static, list) else static))
        except TypeError as error:
            raise ConfigError(
                f"config.backbone: a static field of {type(network).__name__} cannot be hashed ({error}); make it a "
                "tuple, or a field with arrays"
            ) from None


def _as_numpy(value: Any) -> np.ndarray:
    # a PyTorch tensor may be on a GPU and need gradients
    for name in ("detach", "cpu"):
        value = getattr(value, name, lambda value=value: value)()
    return np.asarray(value)


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
