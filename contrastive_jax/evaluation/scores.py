"""Scores of an image from the head outputs of its views; larger = more normal."""

from jaxtyping import Array, Float

from contrastive_jax.objectives import OBJECTIVES

SCORES = ("mean_feature", "mean_view", "clean")
"""Names of the scores; the first is the default."""


def view_scores(features: Float[Array, "v n d"], mode: str) -> dict[str, Float[Array, "n"]]:
    """Three scores of each image from its views, the clean view first.

    In the contrastive modes they are the norm of the mean feature, the mean squared norm, and the norm of the clean
    view (OECL's released code). In the baselines, the score of the baseline replaces the norm (`OBJECTIVES`).
    """
    objective = OBJECTIVES[mode]
    return {
        "mean_feature": objective.feature_score(features.mean(0)),
        "mean_view": objective.view_score(features).mean(0),
        "clean": objective.feature_score(features[0]),
    }
