"""Scores of images on the device, and how well they tell normal from anomalous (AUROC, on the host)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, UInt8, UInt32
from sklearn.metrics import roc_auc_score

from contrastive_jax.config import AugmentConfig, DataConfig
from contrastive_jax.data.protocols import Images, TestSet
from contrastive_jax.evaluation.scores import view_scores
from contrastive_jax.network.resnet import ContrastiveResNet
from contrastive_jax.training.step import AXIS
from contrastive_jax.views.augment import augment_batch, clean_batch

Scores = dict[str, Float[np.ndarray, "n"]]
Scorer = Callable[[Any, Images], Scores]


def build_scorer(
    network: ContrastiveResNet,
    mode: str,
    data: DataConfig,
    augment: AugmentConfig,
    views: int,
    batch_size: int,
    mesh: Mesh,
    seed: int,
) -> Scorer:
    """Builds the function that scores images with given variables.

    Every image gets the same draws of the augmentation, which follow from the seed, so that its score depends on
    nothing but itself: not on its place, its neighbours, the batch size or the number of devices.

    Args:
        network: the network; its running statistics normalise.
        mode: training mode, which says what a score is (`scores.view_scores`).
        data: sizes of stored images and of views.
        augment: augmentation that makes the views.
        views: augmented views beside the clean one.
        batch_size: images a call over all devices (rounded up to a multiple of them).
        mesh: devices.
        seed: of the views.

    Returns:
        A function (variables, uint8 images [n, h, w, 3]) -> scores by name [n].
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size

    def shard(variables: Any, images: UInt8[Array, "b h w 3"], seed: UInt32[Array, ""]) -> dict[str, Float[Array, "b"]]:
        def head(view: Float[Array, "b s s 3"]) -> Float[Array, "b d"]:
            outputs: Any = network.apply(variables, view, train=False)
            return outputs["head"]

        def augmented(view: Array) -> Float[Array, "b d"]:
            key = jax.random.fold_in(jax.random.key(seed), view)
            return head(augment_batch(jnp.broadcast_to(key, len(images)), images, augment, data.image_size))

        features = head(clean_batch(images, augment, data.image_size, data.clean_view))[None]
        if views:
            features = jnp.concatenate([features, jax.lax.map(augmented, jnp.arange(views))])
        return view_scores(features, mode)

    split = PartitionSpec(AXIS)
    call = jax.jit(
        jax.shard_map(
            shard, mesh=mesh, in_specs=(PartitionSpec(), split, PartitionSpec()), out_specs=PartitionSpec(AXIS)
        )
    )

    def score(variables: Any, images: Images) -> Scores:
        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            padding = ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0))
            placed = jax.device_put(np.pad(batch, padding), NamedSharding(mesh, split))
            parts.append(call(variables, placed, np.uint32(seed)))
        return {name: np.concatenate([np.asarray(part[name]) for part in parts])[: len(images)] for name in parts[0]}

    return score


def auroc(normal: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "n"]) -> float | None:
    """Area under the ROC curve of a score, larger = normal; None where a side is empty or a score not finite."""
    if normal.all() or not normal.any() or not np.isfinite(scores).all():
        return None
    return float(roc_auc_score(normal, scores))


def measure(data: TestSet, scores: Scores) -> dict[str, dict[str, Any]]:
    """For each score its AUROC over the whole test set ("pooled") and of each single class.

    Under one-vs-rest each anomalous class stands against the normal class, otherwise each normal class against the
    anomalous one.
    """
    results: dict[str, dict[str, Any]] = {}
    anomalous = np.unique(data.labels[~data.normal])
    several_anomalous = len(anomalous) > 1 or len(np.unique(data.labels[data.normal])) == 1
    varied = anomalous if several_anomalous else np.unique(data.labels[data.normal])
    for name, values in scores.items():
        by_class = {}
        for label in varied:
            kept = (data.labels == label) | (data.normal if several_anomalous else ~data.normal)
            by_class[data.class_names[label]] = auroc(data.normal[kept], values[kept])
        defined = [value for value in by_class.values() if value is not None]
        results[name] = {
            "pooled": auroc(data.normal, values),
            "class_mean": math.fsum(defined) / len(defined) if defined else None,
            "per_class": by_class,
        }
    return results
