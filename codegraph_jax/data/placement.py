"""Where the photographs of a set lie in the grids of their frame, and which of the patches are judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.data.frame import Content, Frame


@dataclass(frozen=True)
class Placement:
    """Where n photographs lie in the grids of their frame, and which of the patches are judged.

    Attributes:
        frame: of all of them.
        sizes: width and height of each photograph in pixels [n, 2].
        judged: patches that count [n, p]; None: all.
    """

    frame: Frame
    sizes: Int[np.ndarray, "n 2"]
    judged: Bool[np.ndarray, "n p"] | None = None

    def content(self, image: int) -> Content:
        """Where one photograph lies."""
        return self.frame.content(*map(int, self.sizes[image]))

    def contents(self, images: slice | Sequence[int] = slice(None)) -> list[Content]:
        """Where some of them lie (default: all)."""
        return [self.frame.content(*size) for size in self.sizes[images].tolist()]

    def of(self, images: Int[np.ndarray, " k"] | Sequence[int] | slice) -> "Placement":
        """That of some of the photographs."""
        return replace(self, sizes=self.sizes[images], judged=None if self.judged is None else self.judged[images])

    @classmethod
    def joined(cls, parts: Sequence["Placement"]) -> "Placement":
        """Of all photographs of some placements of one frame."""
        patches = parts[0].frame.grid[0] * parts[0].frame.grid[1]
        whole = cls(parts[0].frame, np.concatenate([part.sizes for part in parts]))
        judged = [np.ones((len(p.sizes), patches), bool) if p.judged is None else p.judged for p in parts]
        return whole.within(np.concatenate(judged))

    def within(self, inspected: Bool[np.ndarray, "n p"]) -> "Placement":
        """The same, with only those patches judged that are inspected."""
        judged = inspected if self.judged is None else inspected & self.judged
        return self if judged.all() else replace(self, judged=judged)

    def judged_scores(self, patch_scores: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " v"]:
        """The scores of the patches that are judged."""
        flat = patch_scores.reshape(len(patch_scores), -1)
        return flat.ravel() if self.judged is None else flat[self.judged]
