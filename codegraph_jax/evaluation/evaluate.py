"""Evaluates a result by the labels and masks of its samples."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from codegraph_jax.config import MetricsConfig
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.samples import Sample
from codegraph_jax.evaluation.metrics import METRIC_NAMES, Metrics, image_metrics, pixel_metrics
from codegraph_jax.result import DetectionResult

logger = logging.getLogger(__name__)

MAX_MASK_SHARE = 0.5
"""If the median defect mask covers a larger share of its image, the masks are probably inverted."""

DEFAULT = MetricsConfig()


def evaluate(result: DetectionResult, config: MetricsConfig = DEFAULT) -> Metrics:
    """Image and pixel metrics of a result by its `samples` (docs/method.md section 6), None where undefined.

    Image metrics use `scores_rescored`; if re-scoring changed them, `image_auroc_without_rescoring` uses `scores`.
    Images without a label are ignored. Anomalous images whose mask is missing or unreadable count for the image metrics
    only.

    Args:
        result: scores of n images, and the images with their labels and masks.
        config: the resolution of the pixel metrics, and the rules for masks and PRO.
    """
    samples = result.samples
    metrics: Metrics = dict.fromkeys(METRIC_NAMES)
    labelled = [i for i, sample in enumerate(samples) if sample.label is not None]
    if labelled:
        labels = np.array([samples[i].label for i in labelled])
        metrics |= image_metrics(labels, result.scores_rescored[labelled])
        if not np.array_equal(result.scores_rescored, result.scores):
            metrics["image_auroc_without_rescoring"] = image_metrics(labels, result.scores[labelled])["image_auroc"]
    masks = _masks(result, {i: samples[i] for i in labelled}, config)
    if marked := [mask for i, mask in masks.items() if samples[i].mask and samples[i].label == 1]:
        _warn_suspicious_masks(marked, config)
        # interpolated directly from the patches at every size
        maps = (result.maps([i], mask.shape)[0] for i, mask in masks.items())
        metrics |= pixel_metrics(list(masks.values()), maps, config.aupro)
    return metrics


def _masks(
    result: DetectionResult, samples: Mapping[int, Sample], config: MetricsConfig
) -> dict[int, Bool[np.ndarray, "h w"]]:
    """Masks of the normal images and of the anomalous images with a readable mask; warns about unreadable masks."""
    masks: dict[int, np.ndarray] = {}
    problems: list[str] = []
    if not any(sample.mask and sample.label == 1 for sample in samples.values()):
        return masks
    for i, sample in samples.items():
        try:
            if sample.label == 0 or sample.mask:
                width, height = result.placement.sizes[i].tolist()
                size = (height, width) if config.resolution == "image" else result.map_size
                masks[i] = _mask(sample, size, config)
        except UnreadableImageError as error:
            problems.append(str(error))
    if problems:
        logger.warning(
            "%d masks cannot be read, so their images count for the image metrics only; the first: %s",
            len(problems), problems[0],
        )  # fmt: skip
    return masks


def size_text(config: MetricsConfig) -> str:
    """The resolution of the pixel metrics, for messages."""
    return "each image's own size" if config.resolution == "image" else "the size of the score map"


def _mask(sample: Sample, size: tuple[int, int], config: MetricsConfig) -> Bool[np.ndarray, "h w"]:
    if not sample.mask:
        return np.zeros(size, bool)
    source = sample.mask() if callable(sample.mask) else sample.mask
    return load_mask(source, size, config.mask_resizing, inverted=config.defects_are_black)


def _warn_suspicious_masks(masks: Sequence[Bool[np.ndarray, "h w"]], config: MetricsConfig) -> None:
    """Warns if the masks of defective photos are empty, or look inverted."""
    shares = np.array([mask.mean() for mask in masks])
    if empty := int((shares == 0).sum()):
        logger.warning("%d of %d masks of defective photos are empty, at %s", empty, len(masks), size_text(config))
    if np.median(shares) > MAX_MASK_SHARE:
        logger.warning(
            "the median mask covers %.0f %% of its photo; if black marks the defects, set "
            "--config.metrics.defects_are_black=%s",
            100 * np.median(shares), not config.defects_are_black,
        )  # fmt: skip
