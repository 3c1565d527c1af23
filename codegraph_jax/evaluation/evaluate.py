"""Holds a result against the labels and masks of its samples, where they are known."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from codegraph_jax.config import MetricsConfig
from codegraph_jax.data.images import UnreadableImage
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.samples import Sample
from codegraph_jax.evaluation.metrics import image_metrics, pixel_metrics
from codegraph_jax.result import DetectionResult

Metrics = dict[str, float | None]

logger = logging.getLogger(__name__)

FULL = 0.5
"""Share of an image that a defect hardly ever covers, let alone most defects of a set."""

UNDEFINED: Metrics = dict.fromkeys(
    ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro")
)


def evaluate(result: DetectionResult, samples: Sequence[Sample], config: MetricsConfig) -> Metrics:
    """Image and pixel metrics of one category (docs/method.md section 6), None where undefined.

    The image metrics are of `scores`; where these are re-scored, `image_auroc_raw` is of `scores_raw`. Images without a
    label count for nothing; anomalous images without a mask, or with one that cannot be read, count for the image
    metrics only.

    Args:
        result: scores of n images.
        samples: the same n images, in the same order.
        config: where pixels are counted, and the rules for masks and PRO.
    """
    metrics = dict(UNDEFINED)
    labelled = [i for i, sample in enumerate(samples) if sample.label is not None]
    if labelled:
        labels = np.array([samples[i].label for i in labelled])
        metrics |= image_metrics(labels, result.scores[labelled])
        if not np.array_equal(result.scores, result.scores_raw):
            metrics["image_auroc_raw"] = image_metrics(labels, result.scores_raw[labelled])["image_auroc"]
    masks = _masks(result, {i: samples[i] for i in labelled}, config)
    if marked := [mask for i, mask in masks.items() if samples[i].mask]:
        _warn_odd(marked, config)
        # straight from the patches whatever the size: the same surface, looked at in more or fewer places
        maps = (result.maps([i], mask.shape)[0] for i, mask in masks.items())
        metrics |= pixel_metrics(list(masks.values()), maps, config.pro)
    return metrics


def _masks(
    result: DetectionResult, samples: Mapping[int, Sample], config: MetricsConfig
) -> dict[int, Bool[np.ndarray, "h w"]]:
    """Of the normal images and of those whose mask can be read: hours of work must not end at a damaged mask."""
    masks: dict[int, np.ndarray] = {}
    problems: list[str] = []
    if not any(sample.mask for sample in samples.values()):
        return masks
    for i, sample in samples.items():
        try:
            if sample.label == 0 or sample.mask:
                masks[i] = _mask(sample, _size(i, result, config), config)
        except UnreadableImage as error:
            problems.append(str(error))
    if problems:
        logger.warning(
            "%d masks cannot be read; their images count for the image metrics only; the first: %s",
            len(problems), problems[0],
        )  # fmt: skip
    return masks


def where_measured(config: MetricsConfig) -> str:
    """Where pixels were counted, in words for a table."""
    return "each image's own size" if config.size == "image" else "the size of the score"


def _size(place: int, result: DetectionResult, config: MetricsConfig) -> tuple[int, int]:
    """Height and width at which an image's pixels are counted."""
    if config.size == "score":
        return result.map_size
    width, height = map(int, result.placement.sizes[place])
    return height, width


def _mask(sample: Sample, size: tuple[int, int], config: MetricsConfig) -> Bool[np.ndarray, "h w"]:
    if not sample.mask:
        return np.zeros(size, bool)
    return load_mask(sample.mask, size, config.masks, config.inverted)


def _warn_odd(masks: Sequence[Bool[np.ndarray, "h w"]], config: MetricsConfig) -> None:
    """Says where masks look as if they were read the wrong way; `masks` are those of anomalous images."""
    shares = np.array([mask.mean() for mask in masks])
    if empty := int((shares == 0).sum()):
        logger.warning("%d of %d masks of anomalous images are empty, at %s", empty, len(masks), where_measured(config))
    if np.median(shares) > FULL:
        logger.warning(
            "the masks of anomalous images cover %.0f %% of them in the median; where black marks what is anomalous, "
            "set --config.metrics.inverted=%s",
            100 * np.median(shares), not config.inverted,
        )  # fmt: skip
