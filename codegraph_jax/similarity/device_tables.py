"""Tables of distances that stay on the devices that compute them, and are scored there.

Only scores are copied to the host. Each of several devices keeps the rows of its own images: the ring
(`codegraph_jax.similarity.ring`) computes distances in both directions, and sends those of remote images back to their
device, 4 bytes for each patch and degree. Arrays are padded to few sizes (`core.arrays.padded_size`), so that the
categories of a run share their compiled programs.

Distances are bit-identical to those of `HostTables`; scores are summed in a different order (1e-6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import padded_size, zero_padded
from codegraph_jax.core.progress import Progress, UndoableProgress
from codegraph_jax.core.transfers import filled, to_device
from codegraph_jax.features.on_device import DeviceLayer, tokens_on_device
from codegraph_jax.similarity.host_tables import HostTables, PatchScore
from codegraph_jax.similarity.pair_distances import DistanceOptions, PatchSet, prepare
from codegraph_jax.similarity.programs import (
    add,
    divide,
    marked_invalid,
    mask_references,
    pairs_per_iteration,
    table_scores,
    update_references,
)
from codegraph_jax.similarity.references import ReferenceSubset
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.ring import Ring
from codegraph_jax.similarity.schedule import PAIRS_PER_CALL
from codegraph_jax.similarity.table_layout import Table, TableBuffer, TableLayout

CALLS = 32
"""Approximate number of calls that compute a table, so that the progress bar moves."""

CALL_BYTES = 2**26
"""Largest size of the distances from one call; large tables take more calls."""


class DeviceMeanDistances(NamedTuple):
    """Mean distances over layers and degrees, of the images of one device; infinite in padded rows and columns."""

    values: Float[Array, "s t p"]
    image_count: int
    reference_count: int


def distances_on_devices(
    layer: DeviceLayer | Array | np.ndarray,
    options: DistanceOptions,
    layout: TableLayout,
    inspected: Bool[np.ndarray, "n p"],
    advance: Progress = lambda pairs: None,
) -> Table:
    """The table of one layer [n, p, c] of patch tokens, as `pairwise_distances`; `INVALID` for patches not `inspected`.

    Raises:
        jax.errors.JaxRuntimeError: a device runs out of memory.
    """
    patch_count = layer.shape[1]
    buffer = TableBuffer(layout, len(options.degrees), patch_count)
    # distances of one call, 4 bytes each in both directions, are small compared with the table
    most = min(layout.row_count**2 // CALLS, CALL_BYTES // (2 * 4 * len(options.degrees) * patch_count))
    ring = Ring(
        layout.mesh, options, layout.references, buffer.write_distances, UndoableProgress(advance),
        pairs_per_call=max(PAIRS_PER_CALL, most), device_length=layout.row_count,
    )  # fmt: skip
    ring.run(layer, layout.shards)
    table = buffer.table()
    return table if inspected.all() else list(map(marked_invalid, table, layout.split(inspected)))


@dataclass(frozen=True)
class DeviceTables:
    """The distances of every layer on devices (`distances_on_devices`); read-only.

    `layers` has the normalised patch tokens of each layer.
    """

    tables: Sequence[Table]
    layers: Sequence[DeviceLayer | Array | np.ndarray]
    options: DistanceOptions
    layout: TableLayout

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def references(self) -> Int[np.ndarray, " m"]:
        """Indices of the m reference images, in ascending order."""
        return self.layout.references

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images n, references m, patches p)."""
        n, p, _ = self.layers[0].shape
        return n, len(self.references), p

    def means(self) -> list[DeviceMeanDistances]:
        """Mean over layers and degrees; each device has those of its images."""
        layout = self.layout
        size = layout.row_count, layout.column_count, self.shape[2]
        total = [filled(size, 0, np.float32, device) for device in layout.mesh.devices]
        for table in self.tables:
            total = list(map(add, total, table))
        count = layout.repeat(np.float32(len(self) * len(self.options.degrees)))
        means = map(divide, total, count)
        return [DeviceMeanDistances(mean, n, len(self.references)) for mean, n in zip(means, layout.image_counts)]

    def scores(
        self, subset: ReferenceSubset, exclusions: Exclusions, patch_score: PatchScore | None = None
    ) -> list[Float[np.ndarray, "r n p"]]:
        """Scores of every layer, see `HostTables.scores`; those by `patch_score` are computed on the host."""
        if patch_score:
            return self.host().scores(subset, exclusions, patch_score)
        layout = self.layout
        usable = np.zeros((self.shape[0], layout.column_count), bool)
        usable[:, subset.columns] = ~exclusions.pairs[:, subset.columns]
        used, k = layout.split(usable), layout.repeat(np.int32(subset.k))
        masks = []
        for columns, patches in exclusions.masks:
            masked = np.zeros(layout.column_count, bool)
            masked[columns] = True
            masks.append((layout.repeat(masked), layout.split(patches)))
        reduced = np.intersect1d(np.flatnonzero(exclusions.removed.any(axis=1)), self.references[subset.columns])
        scores = []
        for layer, table in zip(self.layers, self.tables):
            if len(reduced):
                table = self._without(layer, table, exclusions.removed, reduced)
            for masked_columns, masked_patches in masks:
                table = list(map(mask_references, table, masked_columns, masked_patches))
            scores.append(list(map(table_scores, table, k, used)))
            del table
        return list(map(layout.join, scores))

    def host(self) -> HostTables:
        """Copies of all tables in the memory of the host."""
        copies = [self.layout.join(table)[:, :, : self.shape[1]] for table in self.tables]
        return HostTables(copies, self.layers, (self.shape[0],), self.references, self.options)

    def _without(
        self,
        layer: DeviceLayer | Array | np.ndarray,
        table: Table,
        removed: Bool[np.ndarray, "n p"],
        reduced: Int[np.ndarray, " l"],
    ) -> Table:
        """A copy of a table, updated for patches that are removed from references."""
        options, layout = self.options.unfused()._replace(masked=True), self.layout
        own = [
            prepare(tokens_on_device(device, layer, slice(start, stop), layout.row_count), options)
            for device, (start, stop) in zip(layout.mesh.devices, layout.shards.tolist())
        ]
        table = list(map(jnp.copy, table))
        # a single device has all references already; others get at most as many as they have images
        size = len(reduced) if len(layout.mesh) == 1 else layout.row_count
        for start in range(0, len(reduced), size):
            table = self._update(layer, table, own, removed, reduced[start : start + size])
        return table

    def _update(
        self,
        layer: DeviceLayer | Array | np.ndarray,
        table: Table,
        own: list[PatchSet],
        removed: Bool[np.ndarray, "n p"],
        reduced: Int[np.ndarray, " l"],
    ) -> Table:
        """Updates a table in place for some `reduced` references, which lose patches; `own` are the prepared images."""
        options, layout = self.options.unfused()._replace(masked=True), self.layout
        if len(layout.mesh) == 1:
            others, indices, removed_from = own, reduced, layout.split(removed)
        else:
            size = padded_size(len(reduced))
            tokens = zero_padded(np.asarray(layer[reduced]), size)
            others = [prepare(there, options) for there in layout.repeat(tokens)]
            indices, removed_from = np.arange(len(reduced)), layout.repeat(zero_padded(removed[reduced], size))
        index_and_column = np.stack([indices, layout.column_of[reduced]], axis=1).astype(np.int32)
        reduced_on = layout.repeat(zero_padded(index_and_column, layout.column_count))
        waiting: list[Array] = []
        for start, stop in _spans(max(layout.image_counts) * len(reduced), pairs_per_iteration(options)):
            done = []
            for d, (device, image_count) in enumerate(zip(layout.mesh.devices, layout.image_counts)):
                ends = np.minimum([start, stop], image_count * len(reduced))
                pairs = to_device(np.array([*ends, max(image_count, 1)], np.int32), device)
                table[d], finished = update_references(
                    table[d], own[d], others[d], removed_from[d], reduced_on[d], pairs, options
                )
                done.append(finished)
            jax.block_until_ready(waiting)
            waiting = done
        return table


def _spans(pairs: int, step: int) -> list[tuple[int, int]]:
    """At most `CALLS` ranges of pairs, each of whole steps."""
    size = -(-pairs // (CALLS * step)) * step
    return [(start, min(start + size, pairs)) for start in range(0, pairs, max(size, 1))]
