"""Figures of a run: how the norms are distributed, and how training went."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float

from codegraph_jax.core.files import whole_file

matplotlib.use("Agg", force=False)
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402  the backend is chosen first

CLEAN = {"clean_normal": "normal", "clean_oe": "OE", "clean_unseen": "unseen"}
"""Means of a test, and whose they are."""

COUNTS = ("oe.few_shot", "oe.class_count")
"""Settings of which 0 means all."""

COLOURS = {"normal": "tab:blue", "OE": "tab:orange", "unseen": "tab:red"}


def save_histogram(path: Path, groups: dict[str, Float[np.ndarray, "n"]], label: str) -> None:
    """Densities of the clean-view score: normal test images, OE images, unseen anomalies.

    Args:
        path: PNG file.
        groups: scores by name of the group.
        label: what the score is.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    values = np.concatenate(list(groups.values()))
    edges = np.linspace(values.min(), values.max() + 1e-6, 60)
    for name, scores in groups.items():
        axes.hist(
            scores, list(edges), density=True, alpha=0.5, label=f"{name} ({len(scores)})", color=COLOURS.get(name)
        )
    axes.set_xlabel(label)
    axes.set_ylabel("density")
    axes.legend()
    _save(figure, path)


def save_learning_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Loss, mean norms of training views and, where a test was made on the way, of clean views, and AUROC.

    Args:
        path: PNG file.
        records: lines of metrics.jsonl.
    """
    train = [record for record in records if record["kind"] == "train"]
    tested = [record for record in records if record["kind"] == "test" and record.get("auroc") is not None]
    grown = [record for record in tested if "clean_normal" in record]
    subsets = ["loss", "norms"] + (["clean"] if grown else []) + (["auroc"] if tested else [])
    figure = Figure(figsize=(4 * len(subsets), 3.2), layout="constrained")
    axes = dict(zip(subsets, figure.subplots(1, len(subsets))))
    epochs = [record["epoch"] for record in train]
    axes["loss"].plot(epochs, [record["loss"] for record in train])
    axes["loss"].set_title("loss")
    for key, name in (("normal_norm", "normal"), ("oe_norm", "OE")):
        if train and key in train[0]:
            axes["norms"].plot(epochs, [record[key] for record in train], label=name, color=COLOURS[name])
    axes["norms"].set_title("mean norm of training views")
    axes["norms"].legend()
    if grown:
        _draw_clean(axes["clean"], grown)
        axes["clean"].set_title("mean score of clean test views")
    if tested:
        axes["auroc"].plot([r["epoch"] for r in tested], [100 * r["auroc"] for r in tested], marker=".")
        axes["auroc"].set_title("AUROC of the clean view, %")
    for subset in axes.values():
        subset.set_xlabel("epoch")
    _save(figure, path)


def save_growth(path: Path, records: dict[str, list[dict[str, Any]]]) -> None:
    """How the norms of clean views of normal, OE and unseen images grow or shrink along the training of each mode.

    Args:
        path: PNG file.
        records: by mode, lines of metrics.jsonl with the means of a test.
    """
    figure = Figure(figsize=(4.2 * len(records), 3.2), layout="constrained")
    for axes, (mode, tested) in zip(np.atleast_1d(figure.subplots(1, len(records))), records.items()):
        _draw_clean(axes, tested)
        axes.set_title(f"{mode}: norm of clean views")
        axes.set_xlabel("epoch")
    _save(figure, path)


def _draw_clean(axes: Axes, tested: list[dict[str, Any]]) -> None:
    """The mean scores of clean views against the epoch."""
    least = 1.0
    for key, name in CLEAN.items():
        if tested[0][key] is not None:
            values = [record[key] for record in tested]
            axes.plot([record["epoch"] for record in tested], values, marker=".", label=name, color=COLOURS[name])
            least = min(least, *values)
    if least > 0:
        # norms rise and fall by orders of magnitude, and their ratio is what counts
        axes.set_yscale("log")
    axes.legend()


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
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as part:
        figure.savefig(part, dpi=120)
