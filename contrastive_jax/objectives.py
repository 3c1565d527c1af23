"""The training modes in one table: loss, what it needs, what its score is, and what it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import losses

Baseline = Callable[..., Float[Array, ""]]


def _logit(features: Float[Array, "*n 1"]) -> Float[Array, "*n"]:
    return features[..., 0]


def _minus_distance(features: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    return -losses.pseudo_huber(features)


def _squared_norm(features: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    return jnp.square(features).sum(-1)


@dataclass(frozen=True)
class Objective:
    """One training mode.

    Attributes:
        exposure: where views of outlying images come from: `images` of a second set, normal views that are `turned`, or
            "" where there are none.
        baseline: the loss of a baseline, of (normal, OE) features; None: NT-Xent, and with an exposure alpha times the
            mean norm of the OE views (arXiv:2312.15288).
        feature_score: score of one feature vector, larger = more normal.
        view_score: score of a view, whose mean over the views is a score too.
        label: what `feature_score` is, for figures.
        head_dim: width of the head's output; None: that of the config.
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
        """What a step logs."""
        names: tuple[str, ...] = ("loss", "normal_norm")
        if self.exposure:
            names += ("oe_norm",)
        if not self.baseline:
            names += ("contrastive",)
        if self.exposure and not self.baseline:
            names += ("alpha",)
        return names

    def instances(self, normal_rotations: int, oe_rotations: int) -> int:
        """Instances that a normal image puts through the network, each in two views.

        Args:
            normal_rotations, oe_rotations: how many turns there are of either kind.
        """
        return {"": 1, "images": 2, "turned": normal_rotations + oe_rotations}[self.exposure]


_baseline = partial(Objective, "images")

OBJECTIVES = {
    "oecl": Objective("images"),
    "self_oecl": Objective("turned"),
    "simclr": Objective(),
    "hsc": _baseline(losses.hypersphere, _minus_distance, _minus_distance, "-h"),
    "bce": _baseline(losses.binary_cross_entropy, _logit, _logit, "normal-class logit", 1),
}
"""By the name that `train.mode` takes. `oecl`, `self_oecl` and `simclr` are the paper's (arXiv:2312.15288), `hsc` and
`bce` the baselines of Liznerski et al. 2022."""
