"""Tables for the terminal: metrics, and the photos with the highest scores."""

from collections.abc import Mapping, Sequence

from codegraph_jax.core.names import printable
from codegraph_jax.core.tables import text_table
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.wording import VERDICTS, how_unusual

TOP = 10
"""Number of photos of each category in `photos_table`."""

HEADINGS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "image_f1_max": "F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "AP",
    "pixel_f1_max": "F1-max",
    "pixel_aupro": "AUPRO",
}


RAW = {"image_auroc": "image AUROC", "image_auroc_without_rescoring": "without re-scoring"}
"""The first columns if re-scoring changes the image AUROC."""
SAME = 5e-5
"""Smaller differences of metrics are not visible in a table."""

Categories = Mapping[str, Mapping[str, float | None]]


def metrics_headings(categories: Categories) -> dict[str, str]:
    """The headings of a table by metric; with both image AUROCs if they differ."""
    both = [(m.get("image_auroc"), m.get("image_auroc_without_rescoring")) for m in categories.values()]
    differs = any(a is not None and b is not None and abs(a - b) >= SAME for a, b in both)
    return RAW | HEADINGS if differs else HEADINGS


def metrics_cells(name: str, metrics: Mapping[str, float | None], headings: Mapping[str, str] = HEADINGS) -> list[str]:
    """One line of a metrics table in percent; a dash for an undefined metric."""
    values = [metrics.get(key) for key in headings]
    return [name] + ["-" if value is None else f"{100 * value:.2f}" for value in values]


def metrics_rows(categories: Categories, mean: Mapping[str, float | None]) -> list[list[str]]:
    """A line for every category, and for the mean of several."""
    headings = metrics_headings(categories)
    rows = [metrics_cells(name, metrics, headings) for name, metrics in categories.items()]
    return [*rows, metrics_cells("mean", mean, headings)] if len(rows) > 1 else rows


def metrics_table(categories: Categories, mean: Mapping[str, float | None]) -> str:
    """Metrics of every category and their mean in percent."""
    return text_table(["category", *metrics_headings(categories).values()], metrics_rows(categories, mean))


def photos_table(outcomes: Sequence[Outcome]) -> str:
    """The photos of each category with the highest scores, flagged ones first, and the number of further photos."""
    several, rows, more = len(outcomes) > 1, [], 0
    for outcome in outcomes:
        result, category = outcome.result, [printable(outcome.category)] if several else []
        verdicts, rarities = result.verdicts, how_unusual(result)
        order = sorted(range(len(verdicts)), key=lambda i: (verdicts[i] != "flagged", -result.scores[i]))
        for i in order[:TOP]:
            name = printable(outcome.samples[i].name)
            rows.append([name, *category, f"{result.scores[i]:.4f}", rarities[i], VERDICTS[verdicts[i]]])
        more += len(order[TOP:])
    table = text_table(["photo", *(["category"] if several else []), "score", "how unusual", "verdict"], rows)
    return f"{table}\nand {more} more in scores.csv" if more else table
