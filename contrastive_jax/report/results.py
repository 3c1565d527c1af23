"""Results of a finished run: scores.csv and the printed tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.core.bootstrap import COVERAGE
from codegraph_jax.core.files import write_csv
from codegraph_jax.core.tables import percent, text_table
from contrastive_jax.data.protocols import EvaluationSet
from contrastive_jax.evaluation.evaluate import Scores
from contrastive_jax.evaluation.metrics import METRICS
from contrastive_jax.objectives import DEFAULT_SCORE, SCORES


def write_test_scores(path: Path, test: EvaluationSet, scores: Scores) -> None:
    """Writes row, class, ground truth and scores (larger = more normal) of each test image."""
    rows = (
        {
            "row": row,
            "class": test.class_names[test.labels[row]],
            "normal": int(test.is_normal[row]),
            **{name: f"{scores[name][row]:.7g}" for name in SCORES},
        }
        for row in range(len(test.images))
    )
    write_csv(path, rows, ["row", "class", "normal", *SCORES])


def print_results(results: dict[str, Any]) -> None:
    """Prints the metrics in percent: of each score over all images, and of the default score for each class."""
    if "metrics" not in results:
        print("trained without a test set")
        return
    rows = [[name, *_cells(results["metrics"][name])] for name in SCORES]
    print("\n" + text_table([f"{COVERAGE:.0%} intervals", *METRICS.values()], rows))
    by_class = {name: scores[DEFAULT_SCORE] for name, scores in results["by_class"].items()}
    defined = [metrics for metrics in by_class.values() if metrics]
    if len(defined) > 1:
        means = [np.mean([metrics[metric]["value"] for metrics in defined]) for metric in METRICS]
        rows = [[name, *_cells(metrics)] for name, metrics in by_class.items()] + [["mean", *map(percent, means)]]
        print("\n" + text_table([f"{DEFAULT_SCORE}, by class", *METRICS.values()], rows))


def _cells(metrics: Mapping[str, Mapping[str, float]] | None) -> list[str]:
    """The cells of a table row: each metric with its interval."""
    if metrics is None:
        return ["-"] * len(METRICS)
    values = ([100 * metrics[metric][key] for key in ("value", "low", "high")] for metric in METRICS)
    return [f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in values]
