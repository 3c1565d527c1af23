"""A network that JAX cannot trace as the backbone: called once for each batch with NumPy arrays.

    python examples/numpy_backbone.py
    codegraph detect DIR --backbone=examples/numpy_backbone.py:CosineTransform

Here it is the discrete cosine transform of 8 x 8 px, without any weights; docs/research.md has an example with PyTorch.
"""

import numpy as np
from scipy.fft import dctn

from codegraph_jax import CoDeGraph
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.evaluate import evaluate

SIZE, COUNT = 224, 24


class CosineTransform:
    """The transform of each patch and of each 2 x 2 patches; a plain object, not a pytree."""

    weights_name = "cosine transform of 8 and 16 px"
    patch_size = 8
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __call__(self, images: np.ndarray) -> tuple[list[np.ndarray], None]:
        # a window of 16 px around each patch; the border is repeated
        wide = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="edge")
        layers = []
        for side, source in ((8, images), (16, wide)):
            windows = np.lib.stride_tricks.sliding_window_view(source, (side, side), axis=(1, 2))[:, ::8, ::8]
            spectrum = dctn(windows, axes=(-2, -1), norm="ortho")[..., :6, :6]  # [n, h, w, 3, 6, 6]
            layers.append(np.abs(spectrum).reshape(len(images), -1, 3 * 36))
        return layers, None


def main() -> dict[str, float | None]:
    drawn = draw_set(COUNT, SIZE, seed=0, one_off=0.2, recurring=(0.2,))
    # labels and masks are used by `evaluate` only
    result = CoDeGraph(backbone=CosineTransform(), image_size=SIZE).detect(zip(drawn.images, drawn.labels, drawn.masks))
    metrics = evaluate(result)
    print("weights", result.weights_name)
    print(metrics)
    return metrics


if __name__ == "__main__":
    main()
