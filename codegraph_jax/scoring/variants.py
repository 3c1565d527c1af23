"""Variants of the score; a person's answers to a few photos choose one [ours].

The best score depends on how the good parts of a product vary, which unlabelled photos do not show. If good parts
differ from each other, a patch should be compared with a few photos only; if defects recur, with many. If whole photos
differ in light or texture, a patch should be compared with the rest of its own photo. All variants use the distances of
the standard score; docs/method.md, section 5.1, compares them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FEW = 0.1
"""Share of the other photos whose distances are averaged by variants with `few`."""


@dataclass(frozen=True)
class Variant:
    """A way to score a patch.

    Attributes:
        name: name in files.
        words: description for people.
        few: whether the share `FEW` of nearest photos is averaged instead of the share in the settings.
        finest: whether only the smallest neighbourhood of patches is used instead of all degrees.
        contrast: whether the median score of the photo is subtracted.
    """

    name: str
    words: str
    few: bool = False
    finest: bool = False
    contrast: bool = False

    def select(self, layers: Sequence[Float[np.ndarray, "r ..."]], degrees: Sequence[int]) -> list[np.ndarray]:
        """The scores of each layer at the degrees that the variant uses."""
        return [layer[[degrees.index(min(degrees))]] if self.finest else layer for layer in layers]

    def of_photo(self, scores: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Patch scores of the variant, at least 0; input scores below 0 are of patches that are not inspected."""
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
"""All variants; the first is the paper's."""


def variant(name: str) -> Variant:
    """The variant with this name; KeyError if there is none."""
    return {item.name: item for item in VARIANTS}[name]
