"""Image and pixel metrics of anomaly scores, exact and fast for 10^8 pixels.

Each metric is a sum over the distinct anomalous scores: between two of them a curve only moves along its axis. Both
classes are sorted once, then each distinct score takes one binary search. No thresholds are sampled, ties are counted
as in scikit-learn, and memory stays at about one copy of the scores.

A metric is None if a class is absent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int, Shaped

Metrics = dict[str, float | None]

METRIC_NAMES = {
    "image_auroc": "image AUROC", "image_ap": "image AP", "image_f1_max": "image F1-max", "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP", "pixel_f1_max": "pixel F1-max", "pixel_aupro": "AUPRO",
}  # fmt: skip
"""Metrics of a detection by their names in files."""

PRO_LIMIT = 0.3
"""False-positive rate up to which the PRO curve is integrated (Bergmann et al., IJCV 2021, section 5)."""
_MUSC_STEPS = 200
_EIGHT_NEIGHBOURS = np.ones((3, 3), int)


def image_metrics(labels: Shaped[np.ndarray, " n"] | Sequence[int], scores: Float[np.ndarray, " n"]) -> Metrics:
    """AUROC, average precision and the greatest F1 of image scores.

    Args:
        labels: 0 normal, 1 anomalous.
        scores: larger is more anomalous.

    Returns:
        image_auroc, image_ap, image_f1_max as fractions; None if a class is absent.

    Examples:
        >>> image_metrics([0, 0, 1, 1], np.array([0.1, 0.4, 0.35, 0.8]))
        {'image_auroc': 0.75, 'image_ap': 0.8333333333333333, 'image_f1_max': 0.8}

    Raises:
        ValueError: labels other than 0 and 1, different shapes, or a score that is not finite, with its index.
    """
    truth, values = np.asarray(labels), _floats(scores)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"labels and scores must have one length, got {list(truth.shape)} and {list(values.shape)}")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 (normal) or 1 (anomalous); leave images of unknown label out")
    if (bad := np.flatnonzero(~np.isfinite(values))).size:
        raise ValueError(f"score {bad[0]} is {values[bad[0]]}; scores must be finite")
    truth = truth.astype(bool)
    return _prefixed("image", _ranking_metrics(_rank(values[truth], values[~truth])))


def pixel_metrics(
    masks: Sequence[Bool[np.ndarray, "h w"]], maps: Iterable[Float[np.ndarray, "h w"]], aupro: str = "standard"
) -> Metrics:
    """AUROC, average precision, greatest F1 and AUPRO over the pixels of all images.

    AUPRO is the area under the per-region overlap against the false-positive rate of the pixels, up to a rate of 0.3.
    The per-region overlap is the detected share of a connected anomalous region (8-neighbourhood), averaged over the
    regions.

    Args:
        masks: True where anomalous; images may differ in size.
        maps: one score map for each mask, of the same size, all of one type; larger is more anomalous. Maps are
            consumed one at a time, so with a generator the memory stays at about five bytes per pixel, including masks.
        aupro: "standard" integrates the exact curve and divides by 0.3 (Bergmann et al., IJCV 2021). "musc" follows
            MuSc's released code: 200 evenly spaced thresholds between the least and the greatest score, without those
            whose rate is 0.3 or more; the remaining rates are rescaled to [0, 1].

    Returns:
        pixel_auroc, pixel_ap, pixel_f1_max, pixel_aupro as fractions; None if a class is absent.

    Raises:
        ValueError: different shapes, numbers or types, masks that are not bool, an unknown `aupro`, or a score that is
            not finite, with the index of its image.
    """
    if aupro not in ("standard", "musc"):
        raise ValueError(f"aupro must be standard or musc, got {aupro!r}")
    ranking = _rank(*_pooled(masks, maps), _region_weights(masks))
    metrics = _ranking_metrics(ranking)
    if ranking is None:
        metrics["aupro"] = None
    else:
        metrics["aupro"] = _standard_pro(ranking) if aupro == "standard" else _musc_pro(ranking)
    return _prefixed("pixel", metrics)


def mean_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """Mean of each metric over the categories in which it is defined; None if there is none."""
    keys = dict.fromkeys(key for one in metrics for key in one)
    columns = {key: [v for one in metrics if (v := one.get(key)) is not None] for key in keys}
    return {key: float(np.mean(values)) if values else None for key, values in columns.items()}


@dataclass(frozen=True)
class _Ranking:
    """Counts of scores at each distinct anomalous score u, in ascending order of u."""

    true_positives: Int[np.ndarray, " u"]
    """Number of anomalous scores >= u."""
    false_positives: Int[np.ndarray, " u"]
    """Number of normal scores >= u."""
    false_positives_above: Int[np.ndarray, " u"]
    """Number of normal scores > u."""
    overlap: Float[np.ndarray, " u"] | None
    """Share of the summed weights of the anomalous scores >= u."""
    scores: Shaped[np.ndarray, " u"]
    normal: Shaped[np.ndarray, " m"]
    """All normal scores, ascending."""
    anomalous_count: int


def _rank(anomalous: np.ndarray, normal: np.ndarray, weights: Float[np.ndarray, " a"] | None = None) -> _Ranking | None:
    """Ranks the scores of both classes and sorts `normal` in place; None if a class is empty."""
    if not anomalous.size or not normal.size:
        return None
    normal.sort()
    if weights is None:
        anomalous = np.sort(anomalous)
    else:
        order = np.argsort(anomalous)
        anomalous, weights = anomalous[order], weights[order]
    starts = np.flatnonzero(np.r_[True, anomalous[1:] != anomalous[:-1]])
    distinct = anomalous[starts]
    # the curves begin at the greatest score
    overlap = None if weights is None else np.cumsum(weights[::-1])[::-1]
    return _Ranking(
        true_positives=anomalous.size - starts,
        false_positives=normal.size - np.searchsorted(normal, distinct, "left"),
        false_positives_above=normal.size - np.searchsorted(normal, distinct, "right"),
        overlap=None if overlap is None else overlap[starts] / overlap[0],
        scores=distinct,
        normal=normal,
        anomalous_count=anomalous.size,
    )


def _pooled(
    masks: Sequence[Bool[np.ndarray, "h w"]], maps: Iterable[Float[np.ndarray, "h w"]]
) -> tuple[Shaped[np.ndarray, " a"], Shaped[np.ndarray, " m"]]:
    """The scores of all anomalous and of all normal pixels, copied map by map."""
    for i, mask in enumerate(masks):
        if mask.dtype != bool or mask.ndim != 2:
            raise ValueError(f"mask {i} must be bool [h, w], got {mask.dtype} {list(mask.shape)}")
    anomalous_count = sum(np.count_nonzero(mask) for mask in masks)
    normal_count = sum(mask.size for mask in masks) - anomalous_count
    anomalous = normal = np.zeros(0, np.float32)
    anomalous_end = normal_end = map_count = 0
    for i, scores in enumerate(map(_floats, maps)):
        if i >= len(masks) or scores.shape != masks[i].shape:
            expected = f"its mask {list(masks[i].shape)}" if i < len(masks) else f"the {len(masks)} masks"
            raise ValueError(f"map {i} of shape {list(scores.shape)} does not match {expected}")
        if not np.isfinite(scores).all():
            raise ValueError(f"map {i} holds a value that is not finite")
        if i == 0:
            anomalous, normal = np.empty(anomalous_count, scores.dtype), np.empty(normal_count, scores.dtype)
        elif scores.dtype != normal.dtype:
            raise ValueError(f"map {i} is {scores.dtype}, but the maps before it are {normal.dtype}")
        inside, outside = scores[masks[i]], scores[~masks[i]]
        anomalous[anomalous_end : anomalous_end + inside.size] = inside
        normal[normal_end : normal_end + outside.size] = outside
        anomalous_end, normal_end = anomalous_end + inside.size, normal_end + outside.size
        map_count += 1
    if map_count != len(masks):
        raise ValueError(f"got {len(masks)} masks and {map_count} maps; give one map for each mask")
    return anomalous, normal


def _ranking_metrics(ranking: _Ranking | None) -> Metrics:
    if ranking is None:
        return {"auroc": None, "ap": None, "f1_max": None}
    true_positives, false_positives = ranking.true_positives, ranking.false_positives
    here = true_positives - np.r_[true_positives[1:], 0]
    # twice Mann and Whitney's U: smaller normal scores count two, equal ones one; exact in integers
    below = 2 * ranking.normal.size - false_positives - ranking.false_positives_above
    auroc = int(here @ below) / (2 * ranking.anomalous_count * ranking.normal.size)
    precision = true_positives / (true_positives + false_positives)
    return {
        "auroc": auroc,
        "ap": float(here @ precision) / ranking.anomalous_count,
        "f1_max": float(np.max(2 * true_positives / (true_positives + false_positives + ranking.anomalous_count))),
    }


def _region_weights(masks: Sequence[Bool[np.ndarray, "h w"]]) -> Float[np.ndarray, " a"]:
    """1 / size of its region for each anomalous pixel, image by image and row by row."""
    parts = [np.zeros(0)]
    for mask in masks:
        if mask.any():
            inside = scipy.ndimage.label(mask, _EIGHT_NEIGHBOURS)[0][mask]
            parts.append(1 / np.bincount(inside)[inside])
    return np.concatenate(parts)


def _standard_pro(ranking: _Ranking) -> float:
    """Area under the exact curve up to the limit, divided by the limit."""
    assert ranking.overlap is not None
    overlap = ranking.overlap[::-1]
    # from one distinct score to the next the curve is flat up to the normal scores above it, then rises (with a slope
    # if normal scores are equal to it)
    rate = (
        np.stack([ranking.false_positives_above[::-1], ranking.false_positives[::-1]], axis=1).ravel()
        / ranking.normal.size
    )
    height = np.stack([np.r_[0.0, overlap[:-1]], overlap], axis=1).ravel()
    rate, height = np.r_[0.0, rate, 1.0], np.r_[0.0, height, height[-1]]
    end = int(np.searchsorted(rate, PRO_LIMIT, "right"))
    last = np.interp(PRO_LIMIT, rate[end - 1 : end + 1], height[end - 1 : end + 1])
    return float(np.trapezoid(np.r_[height[:end], last], np.r_[rate[:end], PRO_LIMIT]) / PRO_LIMIT)


def _musc_pro(ranking: _Ranking) -> float | None:
    """MuSc's AUPRO: sampled thresholds and rescaled rates; None if fewer than two rates are left."""
    assert ranking.overlap is not None
    low = float(min(ranking.scores[0], ranking.normal[0]))
    high = float(max(ranking.scores[-1], ranking.normal[-1]))
    thresholds = (low + (high - low) / _MUSC_STEPS * np.arange(_MUSC_STEPS)).astype(ranking.normal.dtype)
    false = ranking.normal.size - np.searchsorted(ranking.normal, thresholds, "right")
    height = np.r_[ranking.overlap, 0.0][np.searchsorted(ranking.scores, thresholds, "right")]
    rate = false / ranking.normal.size
    rate, height = rate[rate < PRO_LIMIT], height[rate < PRO_LIMIT]
    if rate.size < 2 or rate[0] == rate[-1]:
        return None
    stretched = (rate - rate[-1]) / (rate[0] - rate[-1])
    return float(np.trapezoid(height[::-1], stretched[::-1]))


def _floats(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.dtype == np.float16:
        return scores.astype(np.float32)
    return scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64)


def _prefixed(prefix: str, metrics: Metrics) -> Metrics:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
