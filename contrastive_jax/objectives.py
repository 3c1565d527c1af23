"""The training objectives: loss, outlier exposure and score of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import losses

Baseline = Callable[..., Float[Array, ""]]
SCORES = ("mean_feature", "mean_view", "clean")
"""Names of the scores of an image."""
DEFAULT_SCORE = "mean_feature"
"""The score that `OECL.score` returns and images are ranked by."""


def _logit(features: Float[Array, "*n 1"]) -> Float[Array, "*n"]:
    return features[..., 0]


def _minus_distance(features: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    return -losses.pseudo_huber(features)


def _squared_norm(features: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    return jnp.square(features).sum(-1)


@dataclass(frozen=True)
class Objective:
    """One training objective.

    Attributes:
        exposure: source of the OE views: `images` of a second set, normal views that are `rotated`, or "" for none.
        baseline: loss of a baseline from (normal, OE) features; None: NT-Xent, plus alpha times the mean norm of the OE
            views if there are any (arXiv:2312.15288).
        feature_score: score of one feature vector, larger = more normal.
        view_score: score of a view; its mean over the views is the score `mean_view`.
        label: name of `feature_score` in figures.
        head_dim: width of the head's output; None: as in the config.
    """

    exposure: str = ""
    baseline: Baseline | None = None
    feature_score: Callable[[Any], Array] = losses.safe_norm
    view_score: Callable[[Any], Array] = _squared_norm
    label: str = "norm of the head's output"
    head_dim: int | None = None

    @property
    def needs_oe(self) -> bool:
        """Whether it trains on images of a second set."""
        return self.exposure == "images"

    @property
    def logged(self) -> tuple[str, ...]:
        """Names of the values that a step logs."""
        exposed, contrastive = bool(self.exposure), not self.baseline
        optional = {"oe_norm": exposed, "contrastive": contrastive, "alpha": exposed and contrastive}
        return ("loss", "normal_norm", *(name for name, used in optional.items() if used))


OBJECTIVES = {
    "oecl": Objective("images"),
    "self_oecl": Objective("rotated"),
    "simclr": Objective(),
    "hsc": Objective("images", losses.hypersphere, _minus_distance, _minus_distance, label="-h"),
    "bce": Objective("images", losses.binary_cross_entropy, _logit, _logit, label="normal-class logit", head_dim=1),
}
"""Objectives by the values of `train.objective`: `oecl`, `self_oecl` and `simclr` (arXiv:2312.15288), and the baselines
`hsc` and `bce` (Liznerski et al. 2022)."""


def view_scores(features: Float[Array, "v n d"], name: str) -> dict[str, Float[Array, " n"]]:
    """Three scores of each image from the head outputs of its views, the clean view first; larger = more normal.

    For the contrastive objectives they are the norm of the mean feature, the mean squared norm, and the norm of the
    clean view (OECL's released code). For the baselines, the score of the baseline replaces the norm.
    """
    objective = OBJECTIVES[name]
    return {
        "mean_feature": objective.feature_score(features.mean(0)),
        "mean_view": objective.view_score(features).mean(0),
        "clean": objective.feature_score(features[0]),
    }
