"""The law behind the burnout test as a picture: growth of the distances, and p-values of normal patches."""

import io

import numpy as np
from matplotlib.figure import Figure

from codegraph_jax.consistency.spacing_law import KINDS, SpacingLaw
from codegraph_jax.report.outcome import Diagnostic
from codegraph_jax.report.wording import describe_spacing_fit

COLOURS = dict(zip(KINDS, ("#3b7dd8", "#e0912f", "#c8323c")))


def spacing_diagnostic(fit: SpacingLaw) -> Diagnostic:
    """Growth tau(i) of each kind of patch beside 1 / (alpha i), and the histogram that should be flat."""
    # an Agg figure of its own: no global state, no display
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    growth, histogram = figure.subplots(1, 2)
    for kind, values in fit.growth.items():
        ranks = np.arange(1, len(values) + 1)
        growth.plot(ranks, np.maximum(values, 1e-6), color=COLOURS[kind], label=kind)
    length = len(fit.growth["normal"])
    growth.plot(
        np.arange(1, length + 1), 1.0 / (fit.tail_index[1] * np.arange(1, length + 1)), "k--", label="1 / (α i)"
    )
    growth.set(xscale="log", yscale="log", xlabel="rank i", ylabel="mean of ln d(i+1) / d(i)", title="Neighbour growth")
    growth.legend(fontsize=8)
    edges = np.linspace(0, 1, len(fit.p_values) + 1)
    histogram.bar(edges[:-1], fit.p_values, np.diff(edges), align="edge", color=COLOURS["normal"])
    histogram.axhline(1 / len(fit.p_values), color="k", linestyle="--", linewidth=1)
    histogram.set(
        xlabel="p-value", ylabel="share of normal patches", title="Burnout test on normal patches", xlim=(0, 1)
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    caption = (
        f"Left: how fast the distances of a patch to its nearest images grow; a recurring defect stays low and then "
        f"jumps. Right: p-values of normal patches, flat if the extreme-value law held. Tail index α "
        f"{fit.tail_index[1]:.1f} (quartiles {fit.tail_index[0]:.1f} to {fit.tail_index[2]:.1f}); distance from "
        f"uniform {fit.departure:.2f}; {100 * fit.below['0.01']:.1f} % of normal patches have p < 0.01, "
        f"{100 * fit.below['0.2']:.1f} % have p < 0.2."
    )
    return Diagnostic("Fit of the spacing model", picture.getvalue(), caption, describe_spacing_fit(fit))
