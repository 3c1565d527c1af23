"""Chooses which patches are compared where comparing all of them would take long [ours].

In large grids nearly all the time goes into distances that change no score. If the parts have the same position in all
photos, the nearest patch of another photo is near that position; if not, some of the photos rank the patches as all
photos do. Which of these holds is measured: a sample of patches is compared in full, and the cheapest comparison is
chosen that ranks the sample in the same way (benchmarks/log/accuracy.md, "Comparing less").
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.arrays import evenly
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.features.features import Features
from codegraph_jax.similarity.pair_distances import cosine_to_distance
from codegraph_jax.similarity.references import by_content, choose_references, neighbour_count
from codegraph_jax.similarity.time_estimate import affordable_work, compares_everything, comparison_work

RADII = (4, 8, 16)
REFERENCES = (12, 16, 24, 32, 48, 64, 96, 128)
AGREEMENT = 0.98
"""Minimum rank correlation with the full comparison, in both halves of the sample, of rankings that count as equal."""
MIN_GAIN = 1.5
"""Minimum ratio of the work of the full comparison to that of a choice."""
SAMPLED_IMAGES, SAMPLED_PATCHES = 16, 32
"""Number of images in the sample, and of patches of each."""


@dataclass(frozen=True)
class ComparisonScope:
    """Which patches are compared: a radius in patches and a number of references, None for all.

    The reason is one line for the user; empty if nothing was chosen.
    """

    radius: int | None
    references: int | None
    reason: str = ""

    def applied_to(self, config: Config) -> Config:
        """The settings with this scope."""
        return replace(
            config,
            similarity=replace(config.similarity, radius=self.radius or "all", references=self.references or "all"),
        )


def choose_scope(
    features: Features,
    config: Config,
    backbone: LoadedBackbone,
    grid: tuple[int, int],
    set_size: int,
) -> ComparisonScope:
    """The cheapest comparison whose ranking of sampled patches agrees with that of the full comparison.

    A radius or a number of references that the user chose is kept. The images of the set come first.
    """
    similarity = config.similarity
    full = ComparisonScope(similarity.radius_patches, similarity.reference_count)

    def work(scope: ComparisonScope) -> float:
        return comparison_work(scope.applied_to(config), backbone, len(features.kept), grid)

    if not similarity.is_open or compares_everything(config, backbone, len(features.kept), grid):
        return full
    if jax.process_count() > 1:
        return replace(full, reason="all patches are compared: auto chooses nothing in runs over several processes")
    references = choose_references(features.keys[:set_size], similarity.reference_count)
    distances = _sampled(features, references, grid, sorted(config.features.degrees)[len(config.features.degrees) // 2])
    full_scores = _sample_scores(distances[-1], config.scoring.fraction)
    radii = [radius for radius in RADII if radius < max(grid)] if similarity.radius == "auto" else []
    candidates = {ComparisonScope(radius, full.references): distances[RADII.index(radius)] for radius in radii}
    counts = [count for count in REFERENCES if count < len(references)] if similarity.references == "auto" else []
    for count in counts:
        columns = np.searchsorted(references, choose_references(features.keys[:set_size], count))
        candidates[ComparisonScope(None, count)] = distances[-1][..., columns]
    agreements = {
        scope: _agreement(full_scores, _sample_scores(distances, config.scoring.fraction))
        for scope, distances in candidates.items()
    }
    agreements[full] = 1.0
    worthwhile = [scope for scope in candidates if work(full) >= MIN_GAIN * work(scope)]
    agreeing = [scope for scope in worthwhile if agreements[scope] >= AGREEMENT]
    quick_enough = [scope for scope in agreements if work(scope) <= affordable_work()] or [min(agreements, key=work)]
    chosen = min(agreeing, key=work) if agreeing else max(quick_enough, key=lambda scope: agreements[scope])
    if chosen == full:
        return replace(full, reason="all patches are compared, since comparing fewer would change the ranking")
    return replace(chosen, reason=_reason(chosen, agreements[chosen], work(full) / work(chosen)))


def _reason(scope: ComparisonScope, agreement: float, gain: float) -> str:
    if scope.radius is None:
        compared, setting = f"each photo with {scope.references} others", f"references={scope.references}"
        warning = "; recurring defects on few photos may be missed"
    else:
        warning = ""
        compared, setting = f"only patches at most {scope.radius} patches apart", f"radius={scope.radius}"
    result = (
        "a sample of patches keeps its ranking"
        if agreement >= AGREEMENT
        else "comparing everything would take too long, and a sample of patches is ranked differently"
    )
    return (
        f"compares {compared}, {100 / gain:.0f}% of the work; {result} (correlation {agreement:.3f}{warning}; "
        f"--config.similarity.{setting}; to compare everything: --config.similarity.radius=all "
        "--config.similarity.references=all)"
    )


def _sampled(
    features: Features, references: Int[np.ndarray, " m"], grid: tuple[int, int], degree: int
) -> Float[np.ndarray, "r s q m"]:
    """Distances of sampled patches to every reference, for each of `RADII` and without a radius; infinite to itself.

    The patches of a sampled image are spread evenly over its inspected area.
    """
    order = by_content(references, features.keys)
    images = [order[i] for i in evenly(len(order), SAMPLED_IMAGES)]
    inspected = features.placement.inspected
    sampled = []
    for image in images:
        possible = np.flatnonzero(inspected[image])
        sampled.append(possible[np.linspace(0, len(possible) - 1, SAMPLED_PATCHES).astype(int)])
    cells = np.indices(grid).reshape(2, -1)
    gaps = np.abs(cells[:, np.concatenate(sampled)][:, :, None] - cells[:, None]).max(axis=0).astype(np.int32)
    distances = np.zeros((len(RADII) + 1, len(images), SAMPLED_PATCHES, len(references)), np.float32)
    for layer in features.layers:
        vectors = [_vectors(layer, i, degree, grid)[chosen] for i, chosen in zip(images, sampled)]
        queries = jnp.concatenate(vectors)
        for column, reference in enumerate(references):
            greatest = _greatest(queries, _vectors(layer, reference, degree, grid), gaps, inspected[reference])
            to_reference = np.asarray(cosine_to_distance(greatest)).reshape(distances.shape[:-1])
            distances[..., column] += to_reference / len(features.layers)
    for number, image in enumerate(images):
        distances[:, number, :, np.searchsorted(references, image)] = np.inf
    return distances


def _vectors(layer: Float[np.ndarray, "n p c"], image: int, degree: int, grid: tuple[int, int]) -> Float[Array, "p c"]:
    """Unit vectors of one image."""
    return aggregate(jnp.asarray(layer[int(image)])[None], degree, grid)[0]


@jax.jit
def _greatest(
    queries: Float[Array, "q c"],
    tokens: Float[Array, "p c"],
    gaps: Int[Array, "q p"],
    valid: Bool[Array, " p"],
) -> Float[Array, "r q"]:
    """Greatest cosine of each query with a valid patch within each of `RADII`, and anywhere; `gaps` are in cells."""
    cosines = jnp.where(valid, queries @ tokens.T, -jnp.inf)
    within_radius = [jnp.where(gaps <= radius, cosines, -jnp.inf).max(axis=1) for radius in RADII]
    return jnp.stack([*within_radius, cosines.max(axis=1)])


def _sample_scores(distances: Float[np.ndarray, "s q m"], fraction: float) -> Float[np.ndarray, "s q"]:
    """Mean of the smallest distances, a fraction of all; infinite if one of them is."""
    k = neighbour_count(distances.shape[-1], fraction)
    return np.sort(distances, axis=-1)[..., :k].mean(axis=-1)


def _agreement(full: Float[np.ndarray, "s q"], reduced: Float[np.ndarray, "s q"]) -> float:
    """The lower rank correlation of two halves of the images; 0 if a patch has no score."""
    if not np.isfinite(reduced).all():
        return 0.0
    halves = (slice(0, None, 2), slice(1, None, 2))
    ranks = [[scipy.stats.rankdata(scores[half]) for scores in (full, reduced)] for half in halves]
    correlations = [np.corrcoef(*pair)[0, 1] if all(np.ptp(r) for r in pair) else 0.0 for pair in ranks]
    return float(min(correlations))
