"""Holds a result against the labels and masks of its samples, where they are known."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from codegraph_jax.config import MetricsConfig
from codegraph_jax.data.images import load_image, load_mask, source_of
from codegraph_jax.data.samples import Sample
from codegraph_jax.detector import DetectionResult
from codegraph_jax.metrics import image_metrics, pixel_metrics

Metrics = dict[str, float | None]

UNDEFINED: Metrics = dict.fromkeys(
    ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro")
)


def evaluate(result: DetectionResult, samples: Sequence[Sample], config: MetricsConfig) -> Metrics:
    """Image and pixel metrics of one category (codegraph.md section 6), None where undefined.

    Images without a label count for nothing; anomalous images without a mask count for the image metrics only.

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
    masked = [i for i in labelled if samples[i].label == 0 or samples[i].mask]
    if any(samples[i].mask for i in masked):
        sizes = [_size(samples[i], result, config) for i in masked]
        masks = [_mask(samples[i], size, config) for i, size in zip(masked, sizes)]
        # straight from the patches whatever the size: the same surface, looked at in more or fewer places
        maps = (result.maps([i], size)[0] for i, size in zip(masked, sizes))
        metrics |= pixel_metrics(masks, maps, config.pro)
    return metrics


def where_measured(config: MetricsConfig) -> str:
    """Where pixels were counted, in words for a table."""
    return "each image's own size" if config.size == "image" else "the size of the score"


def _size(sample: Sample, result: DetectionResult, config: MetricsConfig) -> tuple[int, int]:
    """Height and width at which an image's pixels are counted."""
    if config.size == "score":
        return result.image_size, result.image_size
    width, height = load_image(source_of(sample)).size
    return height, width


def _mask(sample: Sample, size: tuple[int, int], config: MetricsConfig) -> Bool[np.ndarray, "h w"]:
    return load_mask(sample.mask, size, config.masks) if sample.mask else np.zeros(size, bool)
