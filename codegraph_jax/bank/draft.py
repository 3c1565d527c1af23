"""How a run makes a reference bank: part of it is learnt before patches leave the banks, the rest is what is left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.backbones import Backbone
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import Config, ConsistencyConfig
from codegraph_jax.consistency.filtering import Dependence, dependences
from codegraph_jax.consistency.stages import mean_distances
from codegraph_jax.core.arrays import at_once
from codegraph_jax.distributed import processes
from codegraph_jax.features.extraction import Extracted
from codegraph_jax.scoring.maps import image_scores
from codegraph_jax.scoring.mutual import mean_scores, neighbour_count
from codegraph_jax.scoring.threshold import calibrate
from codegraph_jax.similarity.query import bank_options
from codegraph_jax.similarity.tiles import TileOptions


@dataclass
class BankDraft:
    """A bank in the making: what is learnt while all patches are in the banks, and what is left when some are not.

    Attributes:
        config: settings of the run.
        backbone: of the run.
        options: of its distances.
        references: images that the bank will hold [R].
        columns: their columns in the tables [R].
    """

    config: Config
    backbone: Backbone
    options: TileOptions
    references: Int[np.ndarray, " R"]
    columns: Int[np.ndarray, " R"]
    _tests: list[Dependence] = field(default_factory=list)

    def learn(
        self,
        tables: Sequence[Float[np.ndarray, "r n m p"]],
        communities: Sequence[Sequence[int]],
        config: ConsistencyConfig,
    ) -> None:
        """Learns to recognise the recurring defects, from distances to all patches."""
        if communities:
            mean = np.concatenate([mean_distances(part) for part in self._parts(tables)])
            self._tests = dependences(mean, self.references, communities, self._k, config)

    def finish(
        self,
        extracted: Extracted,
        tables: Sequence[Float[np.ndarray, "r n m p"]],
        flagged: Bool[np.ndarray, "n h w"],
    ) -> ReferenceBank:
        """The bank, from the distances on which the set was judged; every process ends with the same."""
        size = self.config.backbone.image_size
        patch_scores = np.concatenate([mean_scores(part, self._k) for part in self._parts(tables)])
        patch_scores = patch_scores.reshape(-1, *self.options.grid)
        raw = image_scores(patch_scores, size)
        shape = (len(self.references), patch_scores[0].size)
        removed = flagged[self.references].reshape(shape) if flagged.size else np.zeros(shape, bool)
        low, high = np.percentile(patch_scores, (50.0, 99.9))
        start = sum(extracted.counts[: jax.process_index()])
        mine = self.references - start
        mine = mine[(mine >= 0) & (mine < extracted.counts[jax.process_index()])]
        return ReferenceBank(
            settings=replace(self.config.backbone, blocks=self.backbone.blocks),
            weights=self.backbone.weights,
            options=bank_options(self.options),
            fraction=self.config.scoring.fraction,
            layers=[processes.gather_rows(np.asarray(layer[mine])) for layer in extracted.layers],
            removed=removed,
            tests=self._tests,
            calibration=calibrate(raw, self.config.threshold),
            scale=(float(low), float(max(high, low + 1e-6))),
            backbone=self.backbone,
        )

    def _parts(self, tables: Sequence[Float[np.ndarray, "r n m p"]]) -> Iterator[list[Float[np.ndarray, "r b R p"]]]:
        """The distances to the references of the bank, of some images at a time: a copy of all would be large."""
        patches = tables[0].shape[3]
        size = at_once(sum(4 * len(table) * len(self.columns) * patches for table in tables))
        for start in range(0, tables[0].shape[1], size):
            yield [table[:, start : start + size, self.columns] for table in tables]

    @property
    def _k(self) -> int:
        return neighbour_count(len(self.references), self.config.scoring.fraction)
