"""What the consistency stages find: groups of images that share a defect, and photographs of one and the same part."""

from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from jaxtyping import Bool

from codegraph_jax.consistency.spacing_law import SpacingLaw


@dataclass(frozen=True)
class PatchBox:
    """A rectangle of patches that ties one image to the others of its community.

    Attributes:
        image: index of the image among the n of the result.
        top, left, bottom, right: edges as fractions of the image's height and width, in [0, 1].
    """

    image: int
    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Community:
    """Images that share a recurring defect.

    Attributes:
        members: image indices, the most typical first.
        strength: mean number of selected links between two members.
        p_value: how often chance alone ties so many images so strongly.
        boxes: where the shared defect lies in each member.
    """

    members: tuple[int, ...]
    strength: float
    p_value: float
    boxes: tuple[PatchBox, ...]


@dataclass(frozen=True)
class Consistency:
    """Outcome of the consistency stages over n images.

    Attributes:
        communities: recurring defects, the strongest first; empty where nothing recurs.
        duplicates: groups of images that agree everywhere: photographs of one part, no defect.
        views: groups of images that share a view (the same pose, the same mould) and no defect.
        graph: the image graph; nodes are image indices, edges carry `weight` and `links`.
        flagged: patches that look normal only because of their community [n, h, w].
        spacing_law: how far the patches obey the law that the links rest on; None where it was not measured.
    """

    communities: tuple[Community, ...] = ()
    duplicates: tuple[tuple[int, ...], ...] = ()
    views: tuple[tuple[int, ...], ...] = ()
    graph: nx.Graph = field(default_factory=nx.Graph)
    flagged: Bool[np.ndarray, "n h w"] = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    spacing_law: SpacingLaw | None = None
