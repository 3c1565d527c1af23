"""A Flax network of your own as the backbone: compiled with the rest of the method, on all devices.

    python examples/flax_backbone.py
    codegraph detect DIR --backbone=examples/flax_backbone.py:make

The network is a small CNN with random filters, to show the form; restore trained parameters in `make`.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from codegraph_jax import CoDeGraph
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.evaluate import evaluate

SIZE, COUNT = 224, 24


class Convolutions(nn.Module):
    """Features after 8 x 8 px with two widths."""

    @nn.compact
    def __call__(self, images: jax.Array) -> list[jax.Array]:
        x = nn.relu(nn.Conv(32, (4, 4), strides=4)(images))
        first = nn.relu(nn.Conv(64, (2, 2), strides=2)(x))
        return [first, nn.relu(nn.Conv(96, (3, 3))(first))]


@flax.struct.dataclass
class FlaxBackbone:
    """A pytree: `params` are arguments of the compiled program; everything else is static."""

    params: Any
    weights_name: str = flax.struct.field(pytree_node=False)
    patch_size: int = flax.struct.field(pytree_node=False, default=8)
    mean: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(0.5, 0.5, 0.5))
    std: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(0.25, 0.25, 0.25))

    def __call__(self, images: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        maps = Convolutions().apply(self.params, images)
        layers = [each.reshape(len(images), -1, each.shape[-1]) for each in maps]  # [n, h, w, c] -> [n, p, c]
        return layers, layers[-1].mean(axis=1)


def make() -> FlaxBackbone:
    params = Convolutions().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return FlaxBackbone(params, weights_name="small CNN, random filters, seed 0")


def main() -> dict[str, float | None]:
    drawn = draw_set(COUNT, SIZE, seed=0, one_off=0.2, recurring=(0.2,))
    # labels and masks are used by `evaluate` only
    result = CoDeGraph(backbone=make(), image_size=SIZE).detect(zip(drawn.images, drawn.labels, drawn.masks))
    metrics = evaluate(result)
    print("weights", result.weights_name)
    print(metrics)
    return metrics


if __name__ == "__main__":
    main()
