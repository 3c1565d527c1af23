"""Figures of several training runs."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from contrastive_jax.report.figures import draw_clean, save_figure

COUNTS = ("oe.few_shot", "oe.class_count")
"""Settings of which 0 means all."""


def save_growth(path: Path, records: dict[str, list[dict[str, Any]]]) -> None:
    """How the norms of clean views of normal, OE and unseen images grow or shrink along the training of each mode.

    Args:
        path: PNG file.
        records: by mode, lines of metrics.jsonl with the means of a test.
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
    """A number of several runs against the values of a setting: a line for each mode, and its least and largest seed.

    Args:
        path: PNG file.
        name: of the setting.
        values: in their order.
        curves: by mode, for each value and seed.
        label: what the number is.
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
