"""Trains OECL on arrays, scores other arrays, and saves and loads the model.

    python examples/oecl_arrays.py

Drawn discs are normal, drawn textures the outliers, and other shapes, which training never sees, the test. A narrow
network and few epochs: about a minute on two cores.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from contrastive_jax import OECL
from contrastive_jax.data.patterns import draw_patterns
from contrastive_jax.evaluation.metrics import METRICS, Interval, detection_metrics

EPOCHS, WIDTH = 30, 8


def main() -> dict[str, Interval] | None:
    train, test = draw_patterns("train", 16), draw_patterns("test", 16)
    disc = train.class_names.index("disc")
    discs = train.images[train.labels == disc]  # uint8 [n, 16, 16, 3]
    textures = draw_patterns("oe", 16).images

    model = OECL(image_size=16, stored_size=16, width=WIDTH, epochs=EPOCHS, batch_size=64)
    model.fit(discs, textures, progress=True)
    scores = model.score(test.images, views=8)  # larger = more normal

    with TemporaryDirectory() as home:
        model.save(Path(home) / "discs")
        again = OECL.load(Path(home) / "discs").score(test.images, views=8)
    print("the same after loading:", np.array_equal(scores, again))

    metrics = detection_metrics(test.labels == disc, scores)
    for name, (value, low, high) in (metrics or {}).items():
        print(f"{METRICS[name]:9s} {100 * value:5.1f} ({100 * low:.1f} to {100 * high:.1f})")
    return metrics


if __name__ == "__main__":
    main()
