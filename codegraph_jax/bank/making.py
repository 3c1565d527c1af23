"""Makes a reference bank from a detection run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.bank.calibration_set import MAX_PEAKS, CalibrationSet
from codegraph_jax.bank.compacting import Candidates
from codegraph_jax.bank.exact import ReferenceImages
from codegraph_jax.bank.history import BankRevision
from codegraph_jax.bank.peak_patches import PEAKS_PER_IMAGE, PeakPatches
from codegraph_jax.bank.pool import Pool
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.bank.references import References
from codegraph_jax.config import Config
from codegraph_jax.consistency.decision import Answers, PhotoDecisions, apply_marks, calibrator_of
from codegraph_jax.consistency.filtered_scores import clip_to_median, filtered_scores
from codegraph_jax.consistency.groups import RecurringPatterns
from codegraph_jax.consistency.pattern import Product
from codegraph_jax.consistency.pattern_patches import MIN_OUTSIDE, PatternTest, pattern_tests
from codegraph_jax.consistency.signature import patch_vectors
from codegraph_jax.core.arrays import arrays_at_once
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.placement import Placement
from codegraph_jax.distributed import processes
from codegraph_jax.scoring.distances import as_distances
from codegraph_jax.scoring.maps import image_scores, scale_ends
from codegraph_jax.scoring.scores import ANSWER_SCORES, FEW_SHARE, NAMED_SCORES, Score
from codegraph_jax.scoring.threshold import Calibration, calibrate
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import mean_distances, mean_over_layers
from codegraph_jax.similarity.references import ReferenceSubset, by_content, neighbour_count
from codegraph_jax.similarity.removal import Exclusions

EXACT_PHOTOS, COMPACT_PATCHES = 32, 1024
"""Number of photos and of patches in a bank that `auto` stands for."""


class BankInputs(NamedTuple):
    """The results of a run from which a bank is made: comparison, patterns, patches to exclude, and decisions."""

    comparison: Comparison
    recurring: RecurringPatterns
    exclusions: Exclusions
    decisions: PhotoDecisions


def check_bank(config: Config, chosen_score: Score) -> None:
    """Checks that the bank of `config.bank` can be made in a run with the score `chosen_score`.

    Raises:
        ConfigError: names the invalid setting.
    """
    if config.features.aggregation != "mean":
        raise ConfigError(
            "config.features.aggregation: a bank compares plain means of neighbourhoods; leave it out, or save no bank"
        )
    if chosen_score not in ANSWER_SCORES:
        raise ConfigError(
            f"config.scoring.score: a bank cannot score photos by {chosen_score.name!r}; use one of "
            f"{', '.join(score.name for score in ANSWER_SCORES)}, or save no bank"
        )
    if config.similarity.radius_patches and config.bank.kind == "compact":
        raise ConfigError(
            "config.bank.kind: a compact bank does not store the positions of its patches, so config.similarity.radius "
            "cannot be used with it; leave the radius out, or save an exact bank with --config.bank.kind=exact"
        )


def make_bank(config: Config, backbone: LoadedBackbone, inputs: BankInputs) -> ReferenceBank:
    """The bank of `config.bank` for a set; the same in every process.

    The threshold is calibrated on the set, scored by the bank without patches of recurring defects: an exact bank uses
    its references only (chosen by their content), a compact bank scores each image by a pool from other images.
    """
    config, inputs = _for_chosen_score(config, inputs)
    comparison, set_size, decisions = inputs.comparison, inputs.comparison.set_size, inputs.decisions
    placement, grid = comparison.features.placement.select(slice(set_size)), comparison.options.grid
    references: References
    if config.bank.kind == "compact":
        references, patch_scores = _compact_references_and_scores(config, inputs)
    else:
        references, patch_scores = _exact_references_and_scores(config, inputs)
    maps = NAMED_SCORES[decisions.score_name].combined(patch_scores).reshape(-1, *grid)
    defect_members = inputs.recurring.defect_members(set_size)
    calibration = _calibrated(maps, placement, defect_members, config, inputs)
    clipped_maps, shows_defect_mark = apply_marks(decisions.answers.marks, maps, comparison.features, set_size)
    scores = image_scores(clipped_maps, placement.frame.size, placement.rects())
    passed = ~calibration.flags(scores, defect_members | shows_defect_mark)
    calibration_set = CalibrationSet(
        scores.astype(np.float64), defect_members, _peak_patches(comparison, clipped_maps, passed)
    )
    low, high = scale_ends(placement.inspected_scores(clipped_maps), [calibration.threshold])
    if isinstance(references, Pool):
        # peaks of a density lie higher above its median than those of a mean distance; keep usual peaks uncoloured
        low = max(low, min(calibration.normal_scores.mean, (low + high) / 2))
    images = comparison.features.image_features[:set_size]
    recurring = inputs.recurring
    patterns = [pattern.for_other_sets(recurring.product, set_size) for pattern in recurring.patterns]
    marks = [mark for mark in decisions.answers.marks if mark.product.fits(images)]
    return ReferenceBank(
        backbone_config=replace(config.backbone, blocks=backbone.blocks),
        weights_name=backbone.weights_name,
        references=references,
        patterns=[pattern for pattern in patterns if pattern],
        marks=tuple(marks),
        score_name=decisions.score_name,
        product=Product.of(images),
        calibration=calibration,
        calibration_set=calibration_set,
        history=_history(decisions.answers, len(marks)),
        heatmap_range=(low, high),
        value_range=comparison.features.value_range,
        frame=placement.frame,
        roi=comparison.roi,
        backbone=backbone,
        max_photo_pixels=int(placement.sizes.prod(axis=1).max(initial=0)),
    )


def _history(answers: Answers, mark_count: int) -> tuple[BankRevision, ...]:
    """The first revision, and revisions for the answers to photos of the set."""
    history = [BankRevision("", (), (), 0, tuple(range(mark_count)))]
    for answer in ("good", "defective"):
        photos = [photo for photo in answers.photos.values() if photo.answer == answer]
        if photos:
            names, keys = tuple(photo.name for photo in photos), tuple(photo.key for photo in photos)
            history.append(BankRevision("", names, keys, 0, tuple(range(mark_count)), answer == "defective"))
    return tuple(history)


def _for_chosen_score(config: Config, inputs: BankInputs) -> tuple[Config, BankInputs]:
    """The settings and the comparison for the score that the run has chosen."""
    chosen_score, comparison = NAMED_SCORES[inputs.decisions.score_name], inputs.comparison
    if chosen_score.few_references:
        fraction = min(FEW_SHARE, config.scoring.fraction)
        config = replace(config, scoring=replace(config.scoring, fraction=fraction))
    if chosen_score.finest_degree_only:
        degrees = comparison.options.degrees
        inputs = inputs._replace(comparison=comparison.of_degree(degrees.index(min(degrees))))
    return config, inputs


def _calibrated(
    maps: Float[np.ndarray, "n h w"],
    placement: Placement,
    defect_members: Bool[np.ndarray, " n"],
    config: Config,
    inputs: BankInputs,
) -> Calibration:
    """The calibration by the bank's scores, with the answers of the run, or with the same number of flagged photos."""
    scores, decisions = image_scores(maps, placement.frame.size, placement.rects()), inputs.decisions
    calibration = calibrate(scores, config.threshold, defect_members)
    decided_by = decisions.calibration.decided_by
    if decided_by == "answers":
        keys = [key.hex() for key in inputs.comparison.features.keys[: len(scores)]]
        named = {decisions.score_name: scores}
        calibrator = calibrator_of(named, len(keys), keys, inputs.recurring, calibration.threshold, decisions.answers)
        return calibration.with_threshold(calibrator.threshold, decided_by)
    if decided_by == "manual":
        before_marks = decisions.scores_by_name[decisions.score_name][: len(scores)]
        above = int((before_marks >= decisions.calibration.threshold).sum())
        ordered = np.sort(scores)[::-1]
        if above in (0, len(scores)):
            edge = float(np.nextafter(ordered[0], np.inf)) if above == 0 else float(ordered[-1])
            return calibration.with_threshold(edge, decided_by)
        return calibration.with_threshold(float(ordered[above - 1] + ordered[above]) / 2, decided_by)
    return calibration


def _exact_references_and_scores(
    config: Config, inputs: BankInputs
) -> tuple[ReferenceImages, Float[np.ndarray, "n p"]]:
    """The references of an exact bank, and the patch scores of the set."""
    comparison, exclusions = inputs.comparison, inputs.exclusions
    subset = comparison.subset(config.scoring.fraction, config.bank.photo_count or EXACT_PHOTOS)
    references, features = comparison.references[subset.columns], comparison.features
    patch_scores = filtered_scores(comparison, subset, exclusions)
    local_rows = np.array([i for i in references.tolist() if i in features.local], int) - features.local.start
    images = ReferenceImages(
        options=comparison.options.unfused(),
        fraction=config.scoring.fraction,
        layers=[processes.gather_rows(np.asarray(layer[local_rows])) for layer in features.layers],
        removed=exclusions.removed[references],
        tests=_tests(comparison, subset, inputs.recurring, exclusions.pairs),
        addition_numbers=np.zeros(len(references), int),
    )
    return images, patch_scores[: comparison.set_size]


def _compact_references_and_scores(config: Config, inputs: BankInputs) -> tuple[Pool, Float[np.ndarray, "n p"]]:
    """The pool of a compact bank, and the held-out patch scores of the set."""
    comparison, exclusions, set_size = inputs.comparison, inputs.exclusions, inputs.comparison.set_size
    layers = _own_scores(comparison, inputs.recurring, exclusions, config.scoring.fraction)
    scores = [
        np.stack([clip_to_median(degree, exclusions.clipped) for degree in layer])[:, :set_size] for layer in layers
    ]
    mean, inspected = mean_over_layers(scores), comparison.features.placement.inspected
    ordinary = NAMED_SCORES[inputs.decisions.score_name].combined(mean) < inputs.decisions.calibration.score_of_1_in_10
    usable = np.isfinite(mean) & inspected[:set_size]
    # anomalous patches are not used as references, unless no other patches are left
    allowed = usable & ~exclusions.removed[:set_size] & ordinary
    allowed &= ~inputs.recurring.defect_members(set_size)[:, None]
    # a compact bank has no positions; a radius that the program chose gives the same ranking without them
    options = comparison.options.unfused()._replace(radius=0)
    candidates = Candidates(comparison, options, scores, allowed if allowed.any() else usable)
    count = config.bank.patch_count or COMPACT_PATCHES
    pool_scores = candidates.held_out_scores(count)
    return candidates.pool(count), clip_to_median(pool_scores, exclusions.clipped[:set_size])


def _own_scores(
    comparison: Comparison, recurring: RecurringPatterns, exclusions: Exclusions, fraction: float
) -> list[Float[np.ndarray, "r n p"]]:
    """Patch scores for a pool: the greater of the scores with and without the members of recurring defects.

    Members of a recurring defect lower the scores of the defect and its surroundings in all images. A pool has no
    patches of members, so they must not lower its scores either.
    """
    all_references = comparison.subset(fraction)
    columns = np.flatnonzero(~recurring.defect_members(len(exclusions.removed))[comparison.references])
    subsets = [all_references]
    if MIN_OUTSIDE <= len(columns) < len(all_references.columns):
        subsets.append(ReferenceSubset(columns, neighbour_count(len(columns), fraction)))
    scores = [comparison.tables.scores(subset, exclusions) for subset in subsets]
    return [np.maximum.reduce(layer) for layer in zip(*scores)]


def _peak_patches(
    comparison: Comparison, maps: Float[np.ndarray, "n h w"], passed: Bool[np.ndarray, " n"]
) -> PeakPatches:
    """Peak patches of the images that passed; the same in every process."""
    features, grid = comparison.features, comparison.options.grid
    chosen = by_content(np.flatnonzero(passed).tolist(), features.keys)[: MAX_PEAKS // PEAKS_PER_IMAGE]
    width = sum(layer.shape[-1] for layer in features.layers)
    peak_patches = []
    for i in (i for i in sorted(chosen) if i in features.local):
        tokens = [np.asarray(layer[i - features.local.start])[None] for layer in features.layers]
        peak_patches.append(PeakPatches.of(patch_vectors(tokens, grid)[0], maps[i]))
    vectors = processes.gather_parts([peaks.vectors for peaks in peak_patches], (width,))
    return PeakPatches(vectors, processes.gather_parts([peaks.scores for peaks in peak_patches], ()))


def _tests(
    comparison: Comparison,
    subset: ReferenceSubset,
    recurring: RecurringPatterns,
    duplicates: Bool[np.ndarray, "n m"],
) -> list[PatternTest]:
    """Tests that detect the recurring defects with the references of the bank."""
    defects = recurring.with_verdict("defect")
    members = [[i for i in defect.images if i < comparison.set_size] for defect in defects]
    if not members:
        return []
    distances = np.concatenate(list(_mean_distances(comparison, subset)))
    distances[duplicates[: comparison.set_size][:, subset.columns]] = np.inf
    references = comparison.references[subset.columns]
    tests = pattern_tests(as_distances(distances, references), members, subset.k)
    # JSON has no infinity, and a test with infinite limits finds nothing
    return [test for test in tests if np.isfinite(test.min_score)]


def _mean_distances(comparison: Comparison, subset: ReferenceSubset) -> Iterator[Float[np.ndarray, "b m p"]]:
    """Mean distances, for a few images of the set at a time to limit memory."""
    tables = comparison.tables.host()
    size = arrays_at_once(sum(4 * len(table) * len(subset.columns) * table.shape[3] for table in tables))
    for start in range(0, comparison.set_size, size):
        yield mean_distances(
            [table[:, start : min(start + size, comparison.set_size), subset.columns] for table in tables]
        )
