"""Targeted patch filtering: which patches show what a community shares (docs/method.md section 4.6).

[paper, by name] Only patches that depend on a flagged community are filtered. [ours] What counts as depending.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from codegraph_jax.consistency.community import PatchBox
from codegraph_jax.consistency.constants import CONSTANTS
from codegraph_jax.scoring.distances import Distances, as_distances
from codegraph_jax.similarity.judged import usual

DEPENDENCY = 0.99
"""Quantile among other images that a patch's dependency on its community must exceed to be flagged. [ours]"""
FEWEST_OUTSIDE = 5
"""Images outside all communities, and references outside one, without which normality is anybody's guess."""


@dataclass(frozen=True)
class Dependence:
    """What a patch of any image must exceed to show what a community shares.

    That its score grows without the community (the dependency s(x | outside) / s(x) exceeds its `dependency` quantile
    over the patches of images outside), and that it is then anomalous (s(x | outside) exceeds the `standout` quantile
    of the scores outside). The second keeps the patches of normal parts that merely agree.

    Attributes:
        outside: columns of the references that do not belong to the community [o].
        dependency: least s(x | outside) / s(x).
        standout: least s(x | outside).
    """

    outside: Int[np.ndarray, " o"]
    dependency: float
    standout: float

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return {"outside": self.outside.tolist(), "dependency": self.dependency, "standout": self.standout}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Dependence":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        return cls(np.array(values["outside"], int), float(values["dependency"]), float(values["standout"]))


def dependences(
    distances: Distances | Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    communities: Sequence[Sequence[int]],
    k: int,
) -> list[Dependence]:
    """The limits of every community, measured on the images outside of all; none where those are too few.

    Args:
        distances: mean over layers and degrees; infinite where a reference must not serve.
        references: image of each column.
        communities: image indices of each community.
        k: neighbours that a score averages.
    """
    held = as_distances(distances)
    outside = np.setdiff1d(np.arange(len(held)), [i for community in communities for i in community])
    if len(outside) < FEWEST_OUTSIDE:
        return []
    scores = held.scores(k, images=outside)
    standout = float(np.quantile(usual(scores), CONSTANTS.standout))
    tests = []
    for community in communities:
        rest = np.flatnonzero(~np.isin(references, community))
        if len(rest) < FEWEST_OUTSIDE:
            tests.append(Dependence(rest, 0.0, standout))
            continue
        without = held.scores(min(k, len(rest)), rest, outside)
        limit = np.quantile(usual(without / np.maximum(scores, 1e-12)), DEPENDENCY)
        tests.append(Dependence(rest, float(limit), standout))
    return tests


def depends(distances: Distances, images: Sequence[int], test: Dependence, k: int) -> Bool[np.ndarray, "b p"]:
    """Which patches of some images, of the set or not, show what a community shares; `distances` as above."""
    if len(test.outside) < FEWEST_OUTSIDE:
        return np.zeros((len(images), distances.shape[2]), bool)
    scores = distances.scores(k, images=images)
    without = distances.scores(min(k, len(test.outside)), test.outside, images)
    depending = without / np.maximum(scores, 1e-12) > test.dependency
    return depending & (without > test.standout) & np.isfinite(without)


def members_patches(
    distances: Distances | Float[np.ndarray, "n m p"],
    communities: Sequence[Sequence[int]],
    tests: Sequence[Dependence],
    k: int,
) -> Bool[np.ndarray, "n p"]:
    """Patches of members that show what their community shares; False for all other images.

    Args:
        distances: as for `dependences`.
        communities: image indices of each; disjoint.
        tests: of `dependences`, for each community.
        k: neighbours that a score averages.
    """
    held = as_distances(distances)
    shown = np.zeros(held.shape[::2], bool)
    for community, test in zip(communities, tests):
        members = list(community)
        shown[members] = depends(held, members, test, k)
    return shown


def recognise(
    distances: Distances | Float[np.ndarray, "b m p"], tests: Sequence[Dependence], k: int
) -> list[Bool[np.ndarray, "b p"]]:
    """Patches of images that are not of the set which show what each community shares.

    Args:
        distances: of their patches, mean over layers and degrees.
        tests: of `dependences`, for each community.
        k: neighbours that a score averages.
    """
    held = as_distances(distances)
    return [depends(held, range(len(held)), test, k) for test in tests]


def community_boxes(
    shown: Bool[np.ndarray, "n p"], members: Sequence[int], grid: tuple[int, int]
) -> tuple[PatchBox, ...]:
    """Bounding boxes of the connected regions of chosen patches in each member, diagonal neighbours connected."""
    h, w = grid
    boxes = []
    for i in members:
        regions, _ = ndimage.label(shown[i].reshape(h, w), structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(regions):
            boxes.append(PatchBox(i, rows.start / h, columns.start / w, rows.stop / h, columns.stop / w))
    return tuple(boxes)
