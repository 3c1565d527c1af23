"""Tables of metrics for the terminal and the report."""

from collections.abc import Mapping

from codegraph_jax.core.tables import percent, text_table
from codegraph_jax.evaluation.metrics import METRIC_NAMES

BOTH_AUROCS = {"image_auroc": "image AUROC", "image_auroc_without_rescoring": "without re-scoring"}
"""The first columns of a table if re-scoring changes the image AUROC."""
SAME = 5e-5
"""Smaller differences of metrics are not visible in a table."""

Categories = Mapping[str, Mapping[str, float | None]]


def metrics_headings(categories: Categories) -> dict[str, str]:
    """The headings of a table by metric; with both image AUROCs if they differ."""
    both = [(m.get("image_auroc"), m.get("image_auroc_without_rescoring")) for m in categories.values()]
    differs = any(a is not None and b is not None and abs(a - b) >= SAME for a, b in both)
    return BOTH_AUROCS | METRIC_NAMES if differs else METRIC_NAMES


def metrics_rows(categories: Categories, mean: Mapping[str, float | None]) -> list[list[str]]:
    """Cells in percent for every category, and for the mean of several; a dash for an undefined metric."""
    keys = metrics_headings(categories)
    lines = [*categories.items(), *([("mean", mean)] if len(categories) > 1 else [])]
    return [[name, *(percent(metrics.get(key), 2) for key in keys)] for name, metrics in lines]


def metrics_table(categories: Categories, mean: Mapping[str, float | None]) -> str:
    """Metrics of every category and their mean in percent."""
    return text_table(["category", *metrics_headings(categories).values()], metrics_rows(categories, mean))
