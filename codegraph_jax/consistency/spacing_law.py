"""Measures how well the patches of a set obey the law behind the burnout test (docs/method.md section 4.10).

[paper] For a normal patch tau(i) = ln(d(i+1) / d(i)) is exponential with mean 1 / (alpha i), where alpha is the tail
index of the patch. [ours] The measurements.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.consistency.links import SMALLEST_WINDOW, burnout_test, log_spacings
from codegraph_jax.core.arrays import evenly
from codegraph_jax.core.json_fields import JsonFields
from codegraph_jax.scoring.distances import Distances

WINDOW_SHARE = 0.5
"""Size of the window, as a share of the references."""

MAX_SAMPLED_PATCHES = 5000
"""Maximum number of patches of each kind in the sample, evenly spaced over the set."""

ONE_OFF_QUANTILE = 0.95
"""Quantile of the patch scores above which an unflagged patch counts as a one-off anomaly."""

BINS = 20
"""Number of bins of p-values."""

KINDS = ("normal", "one-off", "recurring")


@dataclass(frozen=True)
class SpacingLaw(JsonFields):
    """Measurements of one set.

    Attributes:
        tail_index_quartiles: quartiles of alpha over normal patches.
        growth: mean of tau(i), i = 1, 2, ..., over the patches of each kind.
        p_value_histogram: share of normal patches in each of 20 equal bins of the test's p-value at a quarter of
            the window; 0.05 each if the law holds.
        ks_distance: Kolmogorov-Smirnov distance of these p-values from uniform; 0 if the law holds.
        share_below: share of normal patches with p < 0.01 and with p < 0.2.
    """

    tail_index_quartiles: tuple[float, float, float]
    growth: dict[str, list[float]]
    p_value_histogram: list[float]
    ks_distance: float
    share_below: dict[str, float]


def measure_spacing_law(
    distances: Distances,
    scores: Float[np.ndarray, "n p"],
    member_patches: Bool[np.ndarray, "n p"],
) -> SpacingLaw | None:
    """Measures the law on normal patches, one-off anomalies and recurring patterns; None if the set is too small.

    `scores` are the mutual scores of the patches, and `member_patches` those of members that show a pattern.
    """
    window = int(WINDOW_SHARE * int(distances.usable().sum(axis=1).min()))
    if window < SMALLEST_WINDOW:
        return None
    valid = (scores >= 0) & np.isfinite(scores)
    outstanding = scores > np.quantile(scores[valid], ONE_OFF_QUANTILE)
    normal_patches, one_off = ~member_patches & ~outstanding & valid, ~member_patches & outstanding & valid
    masks = {"normal": normal_patches, "one-off": one_off, "recurring": member_patches}
    spacings = {kind: _spacings(distances, mask, window) for kind, mask in masks.items() if mask.any()}
    normal = spacings["normal"]
    p_values = np.sort(burnout_test(normal, window)[:, window // 4])
    steps = np.arange(1, len(p_values) + 1) / len(p_values)
    quartiles = np.quantile(1.0 / np.maximum(normal.mean(axis=1), 1e-12), (0.25, 0.5, 0.75))
    return SpacingLaw(
        tail_index_quartiles=(float(quartiles[0]), float(quartiles[1]), float(quartiles[2])),
        growth={kind: (e.mean(axis=0) / np.arange(1, e.shape[1] + 1)).tolist() for kind, e in spacings.items()},
        p_value_histogram=(np.histogram(p_values, BINS, (0.0, 1.0))[0] / len(p_values)).tolist(),
        ks_distance=float(np.abs(steps - p_values).max()),
        share_below={"0.01": float((p_values < 0.01).mean()), "0.2": float((p_values < 0.2).mean())},
    )


def _spacings(distances: Distances, mask: Bool[np.ndarray, "n p"], window: int) -> np.ndarray:
    """Spacings i tau(i) of up to `MAX_SAMPLED_PATCHES` patches of a mask."""
    image, patch = np.nonzero(mask)
    chosen = evenly(len(image), MAX_SAMPLED_PATCHES)
    nearest = np.sort(distances.patch_distances(image[chosen], patch[chosen]), axis=1)[:, :window]
    # with a radius, a patch may have fewer references than the window
    return log_spacings(nearest[np.isfinite(nearest[:, -1])])
