"""Scores that can be chosen: by name, by the place of the user's own, or by a person's answers to a few photos.

The best score depends on how the good parts of a product vary, which unlabelled photos do not show. If good parts
differ from each other, a patch should be compared with a few photos only; if defects recur, with many. If whole photos
differ in light or texture, a patch should be compared with the rest of its own photo. All of them use the distances of
the standard score; docs/method.md, section 5.1, compares those that answers choose from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.user_code import user_object
from codegraph_jax.scoring.maps import ImageScore, mean_of_highest
from codegraph_jax.scoring.rescoring import rescore_by_peaks
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import PatchScore, mean_of_smallest

MIN_MEDIAN = 1e-6
"""Median distance below which a reference counts as a copy of the photo."""


def nearest(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """The distance to the most similar patch of all references [ours]; as in PatchCore (arXiv:2106.08265), K = 1."""
    scores: Float[np.ndarray, " p"] = distances.min(axis=0)
    return scores


def relative(distances: Float[np.ndarray, "m p"], k: int) -> Float[np.ndarray, " p"]:
    """Mean of the K smallest distances, each relative to the median distance of the photo to that reference [ours].

    A reference in another light or pose is far from all patches of the photo alike, and counts as much as the others.
    The result is in units of distances: multiplied by the median of all distances.
    """
    finite = np.where(np.isfinite(distances), distances, np.nan)
    usual = np.maximum(np.nanmedian(finite, axis=1, keepdims=True), MIN_MEDIAN)
    return mean_of_smallest(distances / usual, k) * np.nanmedian(finite)


SETTING = "config.scoring.score"
FEW_SHARE = 0.1
"""Share of the other photos whose distances are averaged by scores with `few_references`."""

Rescoring = Callable[[Float[np.ndarray, " n"], Comparison, Float[np.ndarray, "n h w"]], Float[np.ndarray, " n"]]
"""Scores n images again: called with their scores, their comparison and their patch scores."""


@dataclass(frozen=True)
class Score:
    """A way to score patches and images.

    Attributes:
        name: name in files.
        few_references: whether the share `FEW_SHARE` of nearest photos is averaged instead of that in the settings.
        finest_degree_only: whether only the smallest neighbourhood of patches is used instead of all degrees.
        subtract_median: whether the median score of the photo is subtracted.
        patch_score: score of a patch from its distances; None: the mean of the K smallest.
        image_score: score of an image from its map; None: its greatest value.
        rescoring: the re-scoring of the images, whatever `scoring.rescore` is; None: as that setting says.
    """

    name: str
    few_references: bool = False
    finest_degree_only: bool = False
    subtract_median: bool = False
    patch_score: PatchScore | None = None
    image_score: ImageScore | None = None
    rescoring: Rescoring | None = None

    def select(self, layers: Sequence[Float[np.ndarray, "r ..."]], degrees: Sequence[int]) -> list[np.ndarray]:
        """The scores of each layer at the degrees that the score uses."""
        return [layer[[degrees.index(min(degrees))]] if self.finest_degree_only else layer for layer in layers]

    def combined(self, scores: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Patch scores without the median of their photo if `subtract_median`, and at least 0.

        Input scores below 0 are of patches that are not inspected.
        """
        if self.subtract_median:
            inspected = np.where(scores >= 0, scores, np.nan)
            scores = np.where(scores >= 0, scores - np.nanmedian(inspected, axis=1, keepdims=True), 0)
        return np.maximum(scores, 0).astype(np.float32)


STANDARD = Score("standard")
ANSWER_SCORES = (
    STANDARD,
    Score("few", few_references=True),
    Score("contrast", subtract_median=True),
    Score("few_contrast", few_references=True, subtract_median=True),
    Score("fine", few_references=True, finest_degree_only=True),
)
"""The scores that a person's answers choose from, and that banks can have; the first is the paper's. The texts of the
report describe them (`score_few`)."""
NAMED_SCORES = {
    score.name: score
    for score in (
        *ANSWER_SCORES,
        Score("nearest", patch_score=nearest),
        Score("relative", patch_score=relative),
        Score("mean_peak", image_score=mean_of_highest),
        Score("peak_neighbours", rescoring=rescore_by_peaks),
    )
}
"""All scores that `scoring.score` can name."""


def score_of(score: str | Score | PatchScore) -> Score:
    """The score for a name, for FILE.py:NAME or MODULE:NAME, for a function of distances, or for a `Score`.

    Raises:
        ConfigError: there is no such score.
    """
    if isinstance(score, str):
        if score in NAMED_SCORES:
            return NAMED_SCORES[score]
        if ":" not in score:
            hint = did_you_mean(score, NAMED_SCORES, f"scores: {', '.join(NAMED_SCORES)}, or FILE.py:NAME for your own")
            raise ConfigError(f"{SETTING}: no score is called {score!r}; {hint}")
        with user_object(score, SETTING) as user_score:
            return score_of(user_score)
    if isinstance(score, Score):
        return score
    if not callable(score):
        raise ConfigError(f"score: {score!r} is neither a function of (distances, k) nor a Score; see docs/research.md")
    name = getattr(score, "__name__", type(score).__name__)
    name = name if name.isidentifier() else "own"
    return Score(f"own_{name}" if name in NAMED_SCORES else name, patch_score=score)
