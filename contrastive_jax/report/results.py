"""Results of a finished run: scores.csv and the printed tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegraph_jax.core.bootstrap import COVERAGE
from codegraph_jax.core.files import write_csv
from codegraph_jax.core.tables import percent, text_table
from contrastive_jax.data.protocols import TestSet
from contrastive_jax.evaluation.evaluate import Scores
from contrastive_jax.evaluation.metrics import METRICS
from contrastive_jax.objectives import DEFAULT_SCORE, SCORES


def write_test_scores(path: Path, data: TestSet, scores: Scores) -> None:
    """Writes row, class, ground truth and scores (larger = more normal) of each test image."""
    rows = (
        {
            "row": row,
            "class": data.class_names[data.labels[row]],
            "normal": int(data.normal[row]),
            **{name: f"{scores[name][row]:.7g}" for name in SCORES},
        }
        for row in range(len(data.images))
    )
    write_csv(path, rows, ["row", "class", "normal", *SCORES])


def print_results(results: dict[str, Any]) -> None:
    """Prints AUROC in percent by score, over all images and by class, and all metrics with their intervals."""
    if "auroc" not in results:
        print("trained without a test set")
        return
    by_score, metrics = results["auroc"], results["metrics"]
    classes = list(by_score[DEFAULT_SCORE]["per_class"])
    print()
    rows = []
    for name in SCORES:
        found = by_score[name]
        whole = metrics[name]["auroc"]["value"] if metrics[name] else None
        rows.append([name, *map(percent, (whole, found["class_mean"], *map(found["per_class"].get, classes)))])
    print(text_table(["AUROC %", "all images", "class mean", *classes], rows))
    rows = [[name, *(_with_interval(metrics[name], metric) for metric in METRICS)] for name in SCORES]
    print("\n" + text_table([f"{COVERAGE:.0%} intervals", *METRICS.values()], rows))
    if sets := results.get("ood"):
        rows = [
            [name, *(_with_interval(found[DEFAULT_SCORE], metric) for metric in METRICS)]
            for name, found in sets.items()
        ]
        print("\n" + text_table([f"{DEFAULT_SCORE}, by set", *METRICS.values()], rows))


def _with_interval(metrics: Mapping[str, Mapping[str, float]] | None, metric: str) -> str:
    if metrics is None:
        return "-"
    value, low, high = (100 * metrics[metric][key] for key in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"
