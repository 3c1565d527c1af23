"""Metrics as tables that people read."""

from collections.abc import Mapping

from codegraph_jax.core.tables import text_table

HEADINGS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "image_f1_max": "F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "AP",
    "pixel_f1_max": "F1-max",
    "pixel_aupro": "AUPRO",
}


def metrics_cells(name: str, metrics: Mapping[str, float | None]) -> list[str]:
    """One line of a metrics table in percent; a dash where a metric is undefined."""
    values = [metrics.get(key) for key in HEADINGS]
    return [name] + ["-" if value is None else f"{100 * value:.2f}" for value in values]


def metrics_rows(
    categories: Mapping[str, Mapping[str, float | None]], mean: Mapping[str, float | None]
) -> list[list[str]]:
    """A line for every category, and for their mean where there are several."""
    rows = [metrics_cells(name, metrics) for name, metrics in categories.items()]
    return [*rows, metrics_cells("mean", mean)] if len(rows) > 1 else rows


def metrics_table(categories: Mapping[str, Mapping[str, float | None]], mean: Mapping[str, float | None]) -> str:
    """Metrics of every category and their mean in percent."""
    return text_table(["category", *HEADINGS.values()], metrics_rows(categories, mean))
