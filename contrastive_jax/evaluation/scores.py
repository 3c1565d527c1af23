"""Scores of an image from the head outputs of its views; larger = more normal."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax.losses import pseudo_huber, safe_norm

SCORES = ("mean_feature", "mean_view", "clean")
"""Names of the scores; the first is the default."""


def view_scores(features: Float[Array, "v n d"], mode: str) -> dict[str, Float[Array, "n"]]:
    """Three scores of each image from its views, the clean view first.

    For the contrastive modes: the norm of the mean feature, the mean squared norm, and the norm of the clean view
    (OECL's released code). For `hsc` the same places hold -h of the mean feature, the mean of -h, and -h of the clean
    view; for `bce` the normal-class logit takes the place of -h.
    """
    mean, clean = features.mean(0), features[0]
    if mode == "bce":
        return {"mean_feature": mean[:, 0], "mean_view": features[..., 0].mean(0), "clean": clean[:, 0]}
    if mode == "hsc":
        return {
            "mean_feature": -pseudo_huber(mean),
            "mean_view": -pseudo_huber(features).mean(0),
            "clean": -pseudo_huber(clean),
        }
    return {
        "mean_feature": safe_norm(mean),
        "mean_view": jnp.square(features).sum(-1).mean(0),
        "clean": safe_norm(clean),
    }
