"""Figures of a run: the distribution of norms, and the learning curves."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.core.files import whole_file

CLEAN = {"clean_normal": "normal", "clean_oe": "OE", "clean_unseen": "unseen"}
"""Keys of the mean scores of a test, and the groups of images they belong to."""

DPI = 120
COLOURS = {"normal": "tab:blue", "OE": "tab:orange", "unseen": "tab:red"}


def save_histogram(path: Path, groups: dict[str, Float[np.ndarray, " n"]], label: str) -> None:
    """Draws the densities of the clean-view scores of normal test images, OE images and unseen anomalies."""
    from matplotlib.figure import Figure

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
    with whole_file(path) as part:
        figure.savefig(part, dpi=DPI)


def save_learning_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Draws the loss, the mean norms of training views, and the mean scores and AUROC of tests during training."""
    from matplotlib.figure import Figure

    train = [record for record in records if record["kind"] == "train"]
    tested = [record for record in records if record["kind"] == "test" and record.get("auroc") is not None]
    with_means = [record for record in tested if "clean_normal" in record]
    panels = ["loss", "norms"] + (["clean"] if with_means else []) + (["auroc"] if tested else [])
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    axes = dict(zip(panels, figure.subplots(1, len(panels))))
    epochs = [record["epoch"] for record in train]
    axes["loss"].plot(epochs, [record["loss"] for record in train])
    axes["loss"].set_title("loss")
    for key, name in (("normal_norm", "normal"), ("oe_norm", "OE")):
        if train and key in train[0]:
            axes["norms"].plot(epochs, [record[key] for record in train], label=name, color=COLOURS[name])
    axes["norms"].set_title("mean norm of training views")
    axes["norms"].legend()
    if with_means:
        means = {name: [record[key] for record in with_means] for key, name in CLEAN.items()}
        means = {name: values for name, values in means.items() if values[0] is not None}
        for name, values in means.items():
            at = [record["epoch"] for record in with_means]
            axes["clean"].plot(at, values, marker=".", label=name, color=COLOURS[name])
        if min(map(min, means.values())) > 0:
            # norms change by orders of magnitude, and their ratio matters
            axes["clean"].set_yscale("log")
        axes["clean"].legend()
        axes["clean"].set_title("mean score of clean test views")
    if tested:
        axes["auroc"].plot([r["epoch"] for r in tested], [100 * r["auroc"] for r in tested], marker=".")
        axes["auroc"].set_title("AUROC of the clean view, %")
    for panel in axes.values():
        panel.set_xlabel("epoch")
    with whole_file(path) as part:
        figure.savefig(part, dpi=DPI)
