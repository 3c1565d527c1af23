"""The law behind the burnout test as a picture: growth of the distances, and p-values of normal patches."""

import io

import numpy as np
from matplotlib.figure import Figure

from codegraph_jax.consistency.spacing_law import KINDS, SpacingLaw
from codegraph_jax.report.texts import Text, text

COLOURS = dict(zip(KINDS, ("#3b7dd8", "#e0912f", "#c8323c")))


def spacing_figure(law: SpacingLaw) -> bytes:
    """A PNG: growth tau(i) of each kind of patch beside 1 / (alpha i), and the histogram that should be flat."""
    # an Agg figure of its own: no global state, no display
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    growth, histogram = figure.subplots(1, 2)
    for kind, values in law.growth.items():
        ranks = np.arange(1, len(values) + 1)
        growth.plot(ranks, np.maximum(values, 1e-6), color=COLOURS[kind], label=kind)
    length = len(law.growth["normal"])
    ranks = np.arange(1, length + 1)
    growth.plot(ranks, 1.0 / (law.tail_index_quartiles[1] * ranks), "k--", label="1 / (α i)")
    growth.set(xscale="log", yscale="log", xlabel="rank i", ylabel="mean of ln d(i+1) / d(i)", title="Neighbour growth")
    growth.legend(fontsize=8)
    edges = np.linspace(0, 1, len(law.p_value_histogram) + 1)
    histogram.bar(edges[:-1], law.p_value_histogram, np.diff(edges), align="edge", color=COLOURS["normal"])
    histogram.axhline(1 / len(law.p_value_histogram), color="k", linestyle="--", linewidth=1)
    histogram.set(
        xlabel="p-value", ylabel="share of normal patches", title="Burnout test on normal patches", xlim=(0, 1)
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def spacing_caption(law: SpacingLaw) -> Text:
    """Two sentences on the figure."""
    low, alpha, high = (round(index, 1) for index in law.tail_index_quartiles)
    rare, usual = (round(100 * law.share_below[p], 1) for p in ("0.01", "0.2"))
    return text("spacing_about", alpha=alpha, low=low, high=high, departure=round(law.ks_distance, 2), rare=rare,
                usual=usual)  # fmt: skip


def spacing_finding(law: SpacingLaw) -> Text:
    """The result in one line."""
    return text("spacing_finding", percent=round(100 * law.share_below["0.01"], 1))
