"""Several ways to score the same distances, of which a few looks at photos choose one. [ours]

Which score ranks the defects of a product best depends on how its good parts vary, and unlabelled photos do not tell.
Where good parts differ from each other, a patch should be compared with few photos only; where defects recur, with
many. Where whole photos differ, in light or texture, a patch should be compared with the rest of its own photo. All
variants are read from the distances that the standard score needs; docs/method.md, section 5.1, has them measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FEW = 0.1
"""Share of the other photos whose distances are averaged by the variants with few neighbours."""


@dataclass(frozen=True)
class Variant:
    """A way to score a patch.

    Attributes:
        name: as files have it.
        words: what it is, for people.
        few: the `FEW` nearest photos count, else the share of the settings.
        finest: only the smallest neighbourhood of patches counts, else the mean over all degrees.
        contrast: what counts is by how much a patch exceeds the median of its own photo.
    """

    name: str
    words: str
    few: bool = False
    finest: bool = False
    contrast: bool = False

    def select(self, layers: Sequence[Float[np.ndarray, "r ..."]], degrees: Sequence[int]) -> list[np.ndarray]:
        """The degrees of each layer that count."""
        return [layer[[degrees.index(min(degrees))]] if self.finest else layer for layer in layers]

    def of_photo(self, scores: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Patch scores as the variant has them, at least 0; those below 0 are of patches that are not inspected."""
        if self.contrast:
            inspected = np.where(scores >= 0, scores, np.nan)
            scores = np.where(scores >= 0, scores - np.nanmedian(inspected, axis=1, keepdims=True), 0)
        return np.maximum(scores, 0).astype(np.float32)


STANDARD = Variant("standard", "distance to many other photos")
VARIANTS = (
    STANDARD,
    Variant("few", "distance to the most similar photos", few=True),
    Variant("contrast", "how much a spot differs from the rest of its own photo", contrast=True),
    Variant("few_contrast", "the most similar photos, and the rest of its own photo", few=True, contrast=True),
    Variant("fine", "small details, and the most similar photos", few=True, finest=True),
)
"""The first is the method's own."""


def variant(name: str) -> Variant:
    """The variant of this name; KeyError where there is none."""
    return {known.name: known for known in VARIANTS}[name]
