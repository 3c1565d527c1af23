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
    save_figure(figure, path)


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
        draw_clean(axes["clean"], grown)
        axes["clean"].set_title("mean score of clean test views")
    if tested:
        axes["auroc"].plot([r["epoch"] for r in tested], [100 * r["auroc"] for r in tested], marker=".")
        axes["auroc"].set_title("AUROC of the clean view, %")
    for subset in axes.values():
        subset.set_xlabel("epoch")
    save_figure(figure, path)


def draw_clean(axes: Axes, tested: list[dict[str, Any]]) -> None:
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


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    with whole_file(path) as part:
        figure.savefig(part, dpi=120)
