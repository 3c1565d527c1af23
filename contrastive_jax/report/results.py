"""What a finished run leaves: results.json, scores.csv and the table that is printed."""

from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.core.files import write_csv
from codegraph_jax.core.tables import text_table
from contrastive_jax.data.protocols import TestSet
from contrastive_jax.evaluation.evaluate import Scores
from contrastive_jax.evaluation.scores import SCORES


def write_test_scores(path: Path, data: TestSet, scores: Scores) -> None:
    """One line for each test image: its row, class, whether it is normal, and its scores (larger = more normal)."""
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


def mean_norms(normal: np.ndarray, oe: np.ndarray | None, unseen: np.ndarray) -> dict[str, float | None]:
    """Mean clean-view score of normal test images, OE images and unseen anomalies."""
    return {
        "normal": float(np.mean(normal)),
        "oe": None if oe is None else float(np.mean(oe)),
        "unseen": float(np.mean(unseen)),
    }


def print_results(results: dict[str, Any]) -> None:
    """Prints AUROC in percent by score, pooled and by class."""
    if "auroc" not in results:
        print("trained without a test set")
        return
    by_score = results["auroc"]
    classes = list(by_score[SCORES[0]]["per_class"])
    print()
    rows = [
        [
            name,
            _percent(by_score[name]["pooled"]),
            _percent(by_score[name]["class_mean"]),
            *(_percent(by_score[name]["per_class"][c]) for c in classes),
        ]
        for name in SCORES
    ]
    print(text_table(["AUROC %", "pooled", "class mean", *classes], rows))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
