"""Scores images on the device, and computes AUROC and other metrics on the host."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, UInt8, UInt32

from codegraph_jax.core.auroc import auroc as auroc_of_sides
from contrastive_jax.config import OeclConfig
from contrastive_jax.data.image_set import Images
from contrastive_jax.data.protocols import EvaluationSet
from contrastive_jax.evaluation.metrics import are_defined, detection_metrics
from contrastive_jax.network.resnet import ContrastiveResNet
from contrastive_jax.objectives import view_scores
from contrastive_jax.training.mesh import BATCH_AXIS, put_on_mesh
from contrastive_jax.views.augment import augment_batch, clean_batch

Scores = dict[str, Float[np.ndarray, " n"]]
Scorer = Callable[[Any, Images], Scores]


def build_scorer(network: ContrastiveResNet, config: OeclConfig, mesh: Mesh, views: int) -> Scorer:
    """Builds the function that scores images with given variables.

    All images get the same random augmentations, which follow from the seed, so that a score does not depend on the
    order of images, the batch size or the number of devices.

    Args:
        network: the network; it normalises by its running statistics.
        config: settings of the training: sizes, augmentation, seed, and the objective, which defines the scores.
        mesh: devices.
        views: augmented views in addition to the clean one.

    Returns:
        A function (variables, uint8 images [n, h, w, 3]) -> scores by name [n].
    """
    split = PartitionSpec(BATCH_AXIS)
    call = jax.jit(
        jax.shard_map(
            partial(_shard_scores, network, config, views),
            mesh=mesh,
            in_specs=(PartitionSpec(), split, PartitionSpec()),
            out_specs=split,
        )
    )

    def score(variables: Any, images: Images) -> Scores:
        # few images make a smaller batch, one of few sizes, since each is compiled
        batch_size = min(config.evaluation.batch_size, 1 << max(len(images) - 1, 0).bit_length())
        batch_size = -(-batch_size // mesh.size) * mesh.size
        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            padding = ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0))
            parts.append(call(variables, put_on_mesh(np.pad(batch, padding), mesh, split), np.uint32(config.seed)))
        # gather one call after the other: programs of several processes that wait for each other could otherwise block
        # each other's threads
        whole = [{name: _gathered(scores) for name, scores in batch.items()} for batch in parts]
        return {name: np.concatenate([batch[name] for batch in whole])[: len(images)] for name in whole[0]}

    return score


def _gathered(scores: Float[Array, " b"]) -> Float[np.ndarray, " b"]:
    """The whole array, gathered from the devices of all processes."""
    if scores.is_fully_addressable:
        return np.asarray(scores)
    return np.asarray(multihost_utils.process_allgather(scores, tiled=True))


def _shard_scores(
    network: ContrastiveResNet,
    config: OeclConfig,
    views: int,
    variables: Any,
    images: UInt8[Array, "b h w 3"],
    seed: UInt32[Array, ""],
) -> dict[str, Float[Array, " b"]]:
    """Scores of one device's images."""
    size, augmentation = config.data.image_size, config.augment

    def head(view: Float[Array, "b s s 3"]) -> Float[Array, "b d"]:
        features: Any = network.apply(variables, view, train=False)
        return features

    def augmented(view: Array) -> Float[Array, "b d"]:
        key = jax.random.fold_in(jax.random.key(seed), view)
        return head(augment_batch(jnp.broadcast_to(key, len(images)), images, augmentation, size))

    features = head(clean_batch(images, augmentation, size, config.data.clean_view))[None]
    if views:
        features = jnp.concatenate([features, jax.lax.map(augmented, jnp.arange(views))])
    return view_scores(features, config.train.objective)


def metrics_by_score(normal: Bool[np.ndarray, " n"], scores: Scores) -> dict[str, dict[str, dict[str, float]] | None]:
    """Metrics of each score over all images, each with value, low and high; None where undefined."""
    intervals = {name: detection_metrics(normal, values) for name, values in scores.items()}
    return {
        name: None if metrics is None else {metric: interval._asdict() for metric, interval in metrics.items()}
        for name, metrics in intervals.items()
    }


def auroc(normal: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float | None:
    """Area under the ROC curve of a score, larger = normal; None if a side is empty or a score not finite."""
    return float(auroc_of_sides(scores[~normal], scores[normal])) if are_defined(normal, scores) else None


def evaluation_metrics(test: EvaluationSet, scores: Scores) -> dict[str, Any]:
    """The metrics in results.json: `metrics` of each score over all images, and `by_class`.

    If several classes are anomalous, each is compared with the normal images, otherwise each normal class with the
    anomalous images.
    """
    anomalous, normal = np.unique(test.labels[~test.is_normal]), np.unique(test.labels[test.is_normal])
    varied, others = (normal, ~test.is_normal) if len(anomalous) == 1 < len(normal) else (anomalous, test.is_normal)
    by_class = {}
    for label in varied:
        kept = others | (test.labels == label)
        kept_scores = {name: values[kept] for name, values in scores.items()}
        by_class[test.class_names[label]] = metrics_by_score(test.is_normal[kept], kept_scores)
    return {"metrics": metrics_by_score(test.is_normal, scores), "by_class": by_class}
