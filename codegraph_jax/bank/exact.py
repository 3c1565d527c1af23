"""The references of an exact bank: whole images, with which a new image is compared as in detection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.consistency.duplicates import duplicate_pairs
from codegraph_jax.consistency.pattern_patches import PatternTest, shows_pattern
from codegraph_jax.consistency.signature import patch_vectors
from codegraph_jax.core.tensors import DamagedTensorsError
from codegraph_jax.features.memory import feature_type
from codegraph_jax.scoring.distances import as_distances
from codegraph_jax.similarity.host_tables import mean_distances, mean_over_layers, table_scores
from codegraph_jax.similarity.pair_distances import DistanceOptions, PatchSet
from codegraph_jax.similarity.query import distances_to_references, prepare_references
from codegraph_jax.similarity.references import neighbour_count
from codegraph_jax.similarity.removal import ExcludedReferences, ReferenceMask
from codegraph_jax.similarity.valid import INVALID


@dataclass(frozen=True)
class ReferenceImages:
    """All patches of some images.

    Attributes:
        options: degrees, grid and precision of the distances.
        fraction: share of the references that a score averages.
        layers: patch tokens of the m references in each layer [m, p, c], see `aggregation.normalise`.
        removed: patches that show a recurring defect and are not used [m, p].
        tests: tests that detect a recurring defect on a new image; their `non_member_columns` are of the set only.
        addition_numbers: number of the added good part, from 1; 0 for images of the set, which come first [m].
    """

    options: DistanceOptions
    fraction: float
    layers: list[np.ndarray]
    removed: Bool[np.ndarray, "m p"]
    tests: list[PatternTest]
    addition_numbers: Int[np.ndarray, " m"]

    def __str__(self) -> str:
        return f"{len(self.removed)} references"

    def select(self, chosen: Bool[np.ndarray, " m"]) -> "ReferenceImages":
        """The chosen references; all images of the set must be among them."""
        layers = [layer[chosen] for layer in self.layers]
        return replace(
            self, layers=layers, removed=self.removed[chosen], addition_numbers=self.addition_numbers[chosen]
        )

    def extended(self, layers: Sequence[Float[np.ndarray, "n p c"]], first_number: int) -> "ReferenceImages":
        """The references extended by n good parts, numbered from `first_number`."""
        count = len(layers[0])
        return replace(
            self,
            layers=[np.concatenate([old, np.asarray(new)]) for old, new in zip(self.layers, layers)],
            removed=np.concatenate([self.removed, np.zeros((count, self.removed.shape[1]), bool)]),
            addition_numbers=np.concatenate([self.addition_numbers, first_number + np.arange(count)]),
        )

    def patch_vectors(self) -> list[np.ndarray]:
        """Unit vectors of the patches of each image of the set [p, d], for signatures."""
        of_set = np.flatnonzero(self.addition_numbers == 0)
        return [patch_vectors([np.asarray(layer[[i]]) for layer in self.layers], self.options.grid)[0] for i in of_set]

    def content(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays and settings of this kind of references."""
        tests = [test.as_json() for test in self.tests]
        return {"removed": self.removed}, {"kind": "exact", "fraction": self.fraction, "tests": tests}

    @classmethod
    def from_content(
        cls,
        options: DistanceOptions,
        layers: Sequence[np.ndarray],
        addition_numbers: Int[np.ndarray, " m"],
        tensors: Mapping[str, np.ndarray],
        about: Mapping[str, Any],
    ) -> "ReferenceImages":
        """The references from the arrays and settings of `content` and those that all kinds have."""
        return cls(
            options=options,
            fraction=float(about["fraction"]),
            layers=[layer.astype(feature_type(options.precision)) for layer in layers],
            removed=tensors["removed"].astype(bool),
            tests=[PatternTest.from_json(test) for test in about["tests"]],
            addition_numbers=addition_numbers,
        )

    def check(self) -> None:
        """Checks that the arrays and settings of a file fit together.

        Raises:
            DamagedTensorsError: they do not.
        """
        columns = [i for test in self.tests for i in test.non_member_columns]
        of_set = int((self.addition_numbers == 0).sum())
        if self.removed.ndim != 2 or not all(0 <= i < of_set for i in columns):
            raise DamagedTensorsError("its settings do not fit its tensors")
        fitting = self.layers and self.addition_numbers.shape == self.removed.shape[:1]
        if not fitting or any(x.ndim != 3 or x.shape[:2] != self.removed.shape for x in self.layers):
            raise DamagedTensorsError("its tensors do not fit together")
        height, width = self.options.grid
        if self.removed.shape[1] != height * width:
            raise DamagedTensorsError("its tensors do not fit its settings")

    @cached_property
    def _prepared(self) -> list[PatchSet]:
        """The references prepared for the kernel."""
        removed = jnp.asarray(self.removed)
        return [prepare_references(jnp.asarray(layer), removed, self.options) for layer in self.layers]

    def scores(self, image: Sequence[Any], inspected: Bool[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Scores of the inspected patches of one image from its tokens [p, c] in each layer; `INVALID` elsewhere."""
        pending = [
            distances_to_references(jnp.asarray(x), references, self.options)
            for x, references in zip(image, self._prepared)
        ]
        full, remaining = ([np.array(pair[side]) for pair in pending] for side in (0, 1))
        for table in (*full, *remaining):
            table[..., ~inspected] = INVALID
        mean = mean_distances(full)[None]
        k = neighbour_count(len(self.removed), self.fraction)
        same = duplicate_pairs(as_distances(mean))[0]
        mean[0, same] = np.inf
        distances, masks = as_distances(mean), []
        for test in self.tests:
            non_members = [*test.non_member_columns, *np.flatnonzero(self.addition_numbers).tolist()]
            test = replace(test, non_member_columns=non_members)
            members = np.setdiff1d(np.arange(len(self.removed)), non_members)
            masks.append(ReferenceMask(members, shows_pattern(distances, [0], test, k)))
        excluded = ExcludedReferences(same[None], masks)
        for table in remaining:
            for of_degree in table:
                excluded.apply(0, of_degree)
        scores: Float[np.ndarray, "1 p"] = mean_over_layers([table_scores(table[:, None], k) for table in remaining])
        return np.asarray(scores[0])
