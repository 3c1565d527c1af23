"""The interface of backbones: the one that a network of one's own has to offer, and the one that the package uses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Array, Float

from codegraph_jax.core.settings import ConfigError

Tokens = tuple[Sequence[Float[Array, "n p c"]], Float[Array, "n d"] | None]
"""The output of a backbone: the patch tokens of each layer, and a feature of each whole image or None."""


class Backbone(Protocol):
    """A network that computes patch tokens; any object with these attributes can be given to `CoDeGraph(backbone=...)`.

    An object that is a JAX pytree (a `flax.struct.dataclass`, an `equinox.Module`, ...) is compiled with its arrays as
    arguments and runs on all devices. Any other object is called once for each batch with NumPy arrays, so that it may
    use PyTorch, ONNX Runtime or anything else; everything after it runs in JAX as usual.

    Two attributes are optional: `image_size`, the default side of the input in pixels (518, or the nearest multiple of
    the patch size below), and `resample`, the filter that resizes photos, `bilinear` (default) or `bicubic`.
    """

    @property
    def weights_name(self) -> str:
        """A name for the network, its weights and its layers, such as `resnet50 IMAGENET1K_V2, layers 2 and 3`.

        It is recorded in the manifest, and cached features are found by it: features of backbones with equal names are
        taken to be the same.
        """

    @property
    def patch_size(self) -> int:
        """Side in pixels of the square that one patch token stands for: the stride of the network."""

    @property
    def mean(self) -> Sequence[float]:
        """Mean of RGB in [0, 1]."""

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation of RGB in [0, 1]."""

    def __call__(self, images: Float[Array, "n y x 3"]) -> Tokens:
        """The patch tokens of some images.

        Args:
            images: RGB as (value in [0, 1] - mean) / std, float32; both sides are multiples of the patch size.

        Returns:
            `(layers, image_features)`: for each layer [n, p, c], without class token, the p = (y / patch_size) *
            (x / patch_size) patches row by row; widths c may differ. And one feature of each whole image [n, d], by
            which similar images are found, or None for the mean of the last layer.
        """


@dataclass(frozen=True, kw_only=True)
class LoadedBackbone(ABC):
    """A backbone as the package uses it; a pytree if JAX can trace it.

    Attributes:
        name: name in messages.
        weights_name, patch_size, mean, std, resample: see `Backbone`.
        image_size: default side of the input in pixels.
        discriminative: whether the image feature distinguishes images well enough for re-scoring.
        blocks: numbers of the layers.
        widths: channels of each layer.
        on_host: whether JAX cannot trace it, so that it is called with NumPy arrays outside of compiled programs.
    """

    name: str
    weights_name: str
    patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str
    image_size: int
    discriminative: bool
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    on_host: bool = False

    @abstractmethod
    def __call__(self, images: Any) -> tuple[list[Any], Any]:
        """The layers [n, p, c] in float32, and image features [n, d], which are never None."""

    @property
    def width(self) -> int:
        """Channels of the widest layer, to which the others are filled with 0."""
        return max(self.widths)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the numbers of its output depend on, for caches, as JSON."""
        return {"weights": self.weights_name, "patch_size": self.patch_size, "widths": list(self.widths)}

    @property
    def fixed_settings(self) -> dict[str, Any]:
        """The fields of `config.backbone` that follow from the backbone, with their values."""
        return {"name": self.weights_name, "weights": "", "blocks": (), "activation": "checkpoint"}

    @abstractmethod
    def flop(self, rows: int, columns: int) -> float:
        """Floating-point operations for one image of `rows` x `columns` patches; 0: not known."""

    def portable(self) -> "LoadedBackbone":
        """The same network without choices for the present device, to be exported.

        Raises:
            ConfigError: JAX cannot trace it.
        """
        if self.on_host:
            raise ConfigError(f"the backbone {self.name!r} is not a JAX pytree, so that its program cannot be exported")
        return self
