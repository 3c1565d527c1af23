"""Figures of several training runs."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from contrastive_jax.report.figures import draw_clean, save_figure

COUNTS = ("oe.images", "oe.class_count")
"""Settings of which 0 means all."""


def save_growth(path: Path, records: dict[str, list[dict[str, Any]]]) -> None:
    """Draws the norms of clean views of normal, OE and unseen images against the epoch, for each mode.

    Args:
        path: PNG file.
        records: lines of metrics.jsonl with the means of a test, by mode.
    """
    figure = Figure(figsize=(4.2 * len(records), 3.2), layout="constrained")
    for axes, (mode, tested) in zip(np.atleast_1d(figure.subplots(1, len(records))), records.items()):
        draw_clean(axes, tested)
        axes.set_title(f"{mode}: norm of clean views")
        axes.set_xlabel("epoch")
    save_figure(figure, path)


def save_study(
    path: Path, name: str, values: list[str], curves: dict[str, Float[np.ndarray, "v s"]], label: str
) -> None:
    """Draws a metric against the values of a setting: the mean of each mode, and its range over seeds.

    Args:
        path: PNG file.
        name: name of the setting.
        values: values of the setting, in order.
        curves: the metric for each value and seed, by mode.
        label: name of the metric.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(values))
    for mode, numbers in curves.items():
        (line,) = axes.plot(places, numbers.mean(1), marker="o", label=mode)
        if numbers.shape[1] > 1:
            axes.fill_between(places, numbers.min(1), numbers.max(1), alpha=0.15, color=line.get_color())
    axes.set_xticks(places, ["all" if value == "0" and name in COUNTS else value for value in values])
    axes.set_xlabel(name)
    axes.set_ylabel(label)
    axes.legend()
    save_figure(figure, path)
