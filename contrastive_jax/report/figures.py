"""Figures of a run: the distribution of norms, and the learning curves."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.core.files import whole_file

GROUPS = {"normal": "normal", "oe": "OE", "unseen": "unseen"}
"""Groups of images whose scores a figure compares, and their names in legends."""

DPI = 120
COLOURS = {"normal": "tab:blue", "oe": "tab:orange", "unseen": "tab:red"}


def save_histogram(path: Path, groups: dict[str, Float[np.ndarray, " n"]], label: str) -> None:
    """Draws the densities of the clean-view scores of normal test images, OE images and unseen anomalies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    values = np.concatenate(list(groups.values()))
    edges = np.linspace(values.min(), values.max() + 1e-6, 60)
    for name, scores in groups.items():
        label_of_group = f"{GROUPS[name]} ({len(scores)})"
        axes.hist(scores, list(edges), density=True, alpha=0.5, label=label_of_group, color=COLOURS[name])
    axes.set_xlabel(label)
    axes.set_ylabel("density")
    axes.legend()
    with whole_file(path) as part:
        figure.savefig(part, dpi=DPI)


def save_learning_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Draws the loss, the mean norms of training views, and the mean scores and AUROC of tests during training."""
    from matplotlib.figure import Figure

    train = [record for record in records if record["kind"] == "train"]
    tested = [record for record in records if record["kind"] == "test" and record.get("auroc") is not None]
    panels = ["loss", "norms", *(["clean", "auroc"] if tested else [])]
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    axes = dict(zip(panels, figure.subplots(1, len(panels))))
    epochs = [record["epoch"] for record in train]
    axes["loss"].plot(epochs, [record["loss"] for record in train])
    axes["loss"].set_title("loss")
    for name, label in GROUPS.items():
        if train and f"{name}_norm" in train[0]:
            norms = [record[f"{name}_norm"] for record in train]
            axes["norms"].plot(epochs, norms, label=label, color=COLOURS[name])
    axes["norms"].set_title("mean norm of training views")
    axes["norms"].legend()
    if tested:
        epochs = [record["epoch"] for record in tested]
        means = {name: [record[f"clean_{name}"] for record in tested] for name in GROUPS}
        means = {name: values for name, values in means.items() if values[0] is not None}
        for name, values in means.items():
            axes["clean"].plot(epochs, values, marker=".", label=GROUPS[name], color=COLOURS[name])
        if min(map(min, means.values())) > 0:
            # norms change by orders of magnitude, and their ratio matters
            axes["clean"].set_yscale("log")
        axes["clean"].legend()
        axes["clean"].set_title("mean score of clean test views")
        axes["auroc"].plot(epochs, [100 * record["auroc"] for record in tested], marker=".")
        axes["auroc"].set_title("AUROC of the clean view, %")
    for panel in axes.values():
        panel.set_xlabel("epoch")
    with whole_file(path) as part:
        figure.savefig(part, dpi=DPI)
