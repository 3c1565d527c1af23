"""Metrics of out-of-distribution detection, with bootstrap intervals.

Larger scores mean more normal. In-distribution ("normal") images are the positives of AUROC, AUPR-in and of the true
positive rate of FPR95, out-of-distribution images those of AUPR-out (Hendrycks and Gimpel 2017, arXiv:1610.02136,
section 2; FPR at 95% TPR: Liang et al. 2018, arXiv:1706.02690, section 4.2). Equal scores are one threshold.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.bootstrap import DRAWS, Interval

METRICS = {"auroc": "AUROC", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out", "fpr95": "FPR95"}
"""Metrics and their names in tables. For FPR95, smaller is better."""
TRUE_POSITIVE_RATE = 0.95
"""The true positive rate of FPR95."""
BLOCK_SIZE = 1 << 21
"""Sets are resampled in parts of about this many numbers."""


def are_defined(normal: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> bool:
    """Whether the metrics are defined: there are images of both sides, and all scores are finite."""
    return 0 < normal.sum() < len(normal) and bool(np.isfinite(scores).all())


def detection_metrics(
    normal: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], seed: int = 0, draws: int = DRAWS
) -> dict[str, Interval] | None:
    """All metrics with intervals (each side resampled by itself); None if a side is empty or a score not finite.

    Args:
        normal: True for in-distribution images.
        scores: scores of the images, larger = more normal.
        seed: seed of the resampling.
        draws: number of resampled sets.
    """
    if not are_defined(normal, scores):
        return None
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], descending[1:] != descending[:-1]]))
    sides = np.stack([normal[order], ~normal[order]])
    exact = _metrics(*(np.add.reduceat(side[None].astype(int), starts, axis=1) for side in sides))
    rng = np.random.default_rng(seed)
    drawn: list[dict[str, np.ndarray]] = []
    size = max(1, BLOCK_SIZE // len(scores))
    for start in range(0, draws, size):
        count = min(size, draws - start)
        drawn.append(_metrics(*(_resampled(rng, side, starts, count) for side in sides)))
    return {name: Interval.of(exact[name][0], np.concatenate([sample[name] for sample in drawn])) for name in METRICS}


def _resampled(
    rng: np.random.Generator, side: Bool[np.ndarray, " n"], starts: Int[np.ndarray, " u"], draws: int
) -> Int[np.ndarray, "d u"]:
    """Number of images of one side at each threshold, in resampled sets of the size of that side."""
    count = int(side.sum())
    counts = np.zeros((draws, len(side)), np.int32)
    counts[:, side] = rng.multinomial(count, np.full(count, 1 / count), draws)
    return np.add.reduceat(counts, starts, axis=1)


def _metrics(
    normal_counts: Int[np.ndarray, "d u"], anomalous_counts: Int[np.ndarray, "d u"]
) -> dict[str, Float[np.ndarray, " d"]]:
    """The metrics of d sets, from the counts of images on each side at u scores in descending order."""
    accepted_normal, accepted_anomalous = normal_counts.cumsum(axis=1), anomalous_counts.cumsum(axis=1)
    # true and false positive rates: shares that are accepted as normal
    tpr, fpr = accepted_normal / accepted_normal[:, -1:], accepted_anomalous / accepted_anomalous[:, -1:]
    steps = np.diff(fpr, axis=1, prepend=0.0)
    before = np.concatenate([np.zeros((len(tpr), 1)), tpr[:, :-1]], axis=1)
    reached = (tpr >= TRUE_POSITIVE_RATE - 1e-12).argmax(axis=1)
    return {
        "auroc": (steps * (tpr + before) / 2).sum(axis=1),
        "aupr_in": _average_precision(normal_counts, anomalous_counts),
        "aupr_out": _average_precision(anomalous_counts[:, ::-1], normal_counts[:, ::-1]),
        "fpr95": fpr[np.arange(len(fpr)), reached],
    }


def _average_precision(positive: Int[np.ndarray, "d u"], negative: Int[np.ndarray, "d u"]) -> Float[np.ndarray, " d"]:
    """Mean precision over the positives; the thresholds are in the order of acceptance."""
    taken = positive.cumsum(axis=1)
    precision = taken / np.maximum(taken + negative.cumsum(axis=1), 1)
    return np.asarray((positive * precision).sum(axis=1) / taken[:, -1])
