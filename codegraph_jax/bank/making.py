"""How a run makes a reference bank."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.backbones import Backbone
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import Config, ConsistencyConfig
from codegraph_jax.consistency.community import Consistency
from codegraph_jax.consistency.filtered import Filter, filtered_scores
from codegraph_jax.consistency.filtering import Dependence, dependences
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.core.arrays import at_once
from codegraph_jax.distributed import processes
from codegraph_jax.scoring.maps import image_scores, scale_ends
from codegraph_jax.scoring.panel import Panel, panel_scores
from codegraph_jax.scoring.threshold import calibrate
from codegraph_jax.similarity.comparison import Comparison, mean_distances
from codegraph_jax.similarity.query import query_options


def make_bank(
    config: Config,
    backbone: Backbone,
    comparison: Comparison,
    wanted: int,
    found: Consistency,
    taken_out: Filter,
    consistency: ConsistencyConfig,
) -> ReferenceBank:
    """A bank of some references of a set; every process ends with the same.

    The threshold is learnt from the scores of the set against these references alone, without the patches that show a
    recurring defect.

    Args:
        config: settings of the run.
        backbone: of the run.
        comparison: of all images of the run.
        wanted: how many references, chosen by their content from those of the set.
        found: what recurs in the set.
        taken_out: what must not serve as a reference.
        consistency: the quantiles by which a recurring defect is recognised.
    """
    placement = comparison.features.placement.of(slice(comparison.own))
    panel = Panel.of(comparison, config.scoring.fraction, wanted)
    references, counts = comparison.references[panel.columns], comparison.features.counts
    patch_scores = filtered_scores(comparison, panel, panel_scores(comparison, panel), taken_out)[: comparison.own]
    maps = np.maximum(patch_scores, 0).reshape(-1, *comparison.options.grid)
    raw = image_scores(maps, placement.frame.size, placement.contents())
    calibration = calibrate(raw, config.threshold, found.proven(comparison.own))
    start = sum(counts[: jax.process_index()])
    mine = references - start
    mine = mine[(mine >= 0) & (mine < counts[jax.process_index()])]
    return ReferenceBank(
        settings=replace(config.backbone, blocks=backbone.blocks),
        weights=backbone.weights,
        options=query_options(comparison.options),
        fraction=config.scoring.fraction,
        layers=[processes.gather_rows(np.asarray(layer[mine])) for layer in comparison.features.layers],
        removed=taken_out.removed[references],
        tests=_tests(comparison, panel, found, taken_out.pairs, consistency),
        patterns=_patterns(found, comparison.own),
        calibration=calibration,
        scale=scale_ends(placement.judged_scores(maps), [calibration.threshold]),
        depth=comparison.features.depth,
        frame=placement.frame,
        roi=comparison.roi,
        backbone=backbone,
    )


def _tests(
    comparison: Comparison,
    panel: Panel,
    found: Consistency,
    duplicates: Bool[np.ndarray, "n m"],
    consistency: ConsistencyConfig,
) -> list[Dependence]:
    """How the recurring defects are recognised by the references of the bank, all of their patches serving."""
    members = [[i for i in found.images(number) if i < comparison.own] for number in found.numbers("defect")]
    if not members:
        return []
    distances = np.concatenate(list(_mean_distances(comparison, panel)))
    distances[duplicates[: comparison.own][:, panel.columns]] = np.inf
    return dependences(distances, comparison.references[panel.columns], members, panel.k, consistency)


def _patterns(found: Consistency, images: int) -> list[Pattern]:
    """What recurs and can be known again, with how many of the set's images show it."""
    patterns = (found.pattern(number, images) for number in range(1, found.highest + 1))
    return [pattern for pattern in patterns if pattern]


def _mean_distances(comparison: Comparison, panel: Panel) -> Iterator[Float[np.ndarray, "b R p"]]:
    """Of some images of the set at a time: a copy of all tables would be large."""
    tables: Sequence[np.ndarray] = comparison.tables
    size = at_once(sum(4 * len(table) * len(panel.columns) * table.shape[3] for table in tables))
    for start in range(0, comparison.own, size):
        yield mean_distances([table[:, start : min(start + size, comparison.own), panel.columns] for table in tables])
