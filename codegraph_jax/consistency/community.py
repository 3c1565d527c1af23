"""What the consistency stages find: groups of images that share a pattern, and photographs of one and the same part."""

from dataclasses import dataclass, field, replace

import networkx as nx
import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.consistency.pattern import Pattern, Product, Verdict
from codegraph_jax.consistency.signature import Signature
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
class Evidence:
    """What tells a recurring defect from a harmless variant of good parts (`codegraph_jax.consistency.verdicts`).

    Attributes:
        p_value: how often a normal image scores as high as the typical member, when that is judged by images outside.
        roughness: how far the nearest repeat of the pattern is, in multiples of that of the rest of the part.
        contrast: how far images outside are from the pattern, in multiples of how far the members are.
        spread: how unequal the members' distances to each other are, in multiples of those of the rest of the part.
    """

    p_value: float
    roughness: float
    contrast: float
    spread: float


@dataclass(frozen=True)
class Community:
    """Images that share a pattern which the others lack: a recurring defect, or a harmless variant of good parts.

    Attributes:
        members: image indices, the most typical first.
        strength: mean number of selected links between two members.
        p_value: how often chance alone ties so many images so strongly.
        boxes: where the shared pattern lies in each member.
        verdict: what it is taken for; only a defect is filtered.
        evidence: what the verdict rests on where no person has given it; None where too few images lie outside of all
            communities to tell.
        name: what a person calls it; empty where nobody has given it a name.
        reviewed: whether the verdict is a person's.
        signature: what the pattern looks like; None where too little of it is known.
    """

    members: tuple[int, ...]
    strength: float
    p_value: float
    boxes: tuple[PatchBox, ...]
    verdict: Verdict = "undecided"
    evidence: Evidence | None = None
    name: str = ""
    reviewed: bool = False
    signature: Signature | None = None


@dataclass(frozen=True)
class PatternMatch:
    """A pattern that a person has judged before, and where it is seen again.

    Attributes:
        pattern: what was judged, with the counts of the lot before.
        number: of the community that shares it, or a number of its own beyond those of the communities.
        images: image indices, members and others that are recognised; in ascending order, perhaps none.
    """

    pattern: Pattern
    number: int
    images: tuple[int, ...]


@dataclass(frozen=True)
class Consistency:
    """Outcome of the consistency stages over n images.

    Attributes:
        communities: what recurs, the strongest first; empty where nothing does.
        duplicates: groups of images that agree everywhere: photographs of one part, no defect.
        views: groups of images that share a view (the same pose, the same mould) and no defect.
        graph: the image graph; nodes are image indices, edges carry `weight` and `links`.
        shows: what a patch shows: the number of a community, from 1, or of a sighting; 0: nothing [n, h, w].
        spacing_law: how far the patches obey the law that the links rest on; None where it was not measured.
        sightings: what a person has judged before, where it was seen on this product.
        others: what a person has judged on other products.
        product: what the images have in common; None where nothing recurs.
    """

    communities: tuple[Community, ...] = ()
    duplicates: tuple[tuple[int, ...], ...] = ()
    views: tuple[tuple[int, ...], ...] = ()
    graph: nx.Graph = field(default_factory=nx.Graph)
    shows: Int[np.ndarray, "n h w"] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int16))
    spacing_law: SpacingLaw | None = None
    sightings: tuple[PatternMatch, ...] = ()
    others: tuple[Pattern, ...] = ()
    product: Product | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(str(len(community.members)) for community in self.communities)
        return f"Consistency({len(self.communities)} groups{f' of {sizes} images' if sizes else ''})"

    def numbers(self, verdict: Verdict) -> list[int]:
        """The numbers of the communities, and of the sightings beyond them, that have this verdict."""
        found = [number for number, community in enumerate(self.communities, 1) if community.verdict == verdict]
        return found + [
            s.number for s in self.sightings if s.number > len(self.communities) and s.pattern.verdict == verdict
        ]

    def images(self, number: int) -> list[int]:
        """The images that show what a number stands for: members of a community, and where it is recognised besides."""
        members = self.communities[number - 1].members if number <= len(self.communities) else ()
        return sorted({*members, *(i for s in self.sightings if s.number == number for i in s.images)})

    def pattern(self, number: int, images: int) -> Pattern | None:
        """What a number stands for, to be known by in other sets; None where too little of it is known.

        Args:
            number: of a community or a sighting.
            images: how many images the set has.
        """
        shown = len(self.images(number))
        for sighting in self.sightings:
            if sighting.number == number:
                return replace(sighting.pattern, shown=shown, images=images)
        community = self.communities[number - 1]
        if community.signature is None or self.product is None:
            return None
        return Pattern(community.name, community.verdict, community.signature, self.product, shown, images)

    def proven(self, images: int) -> Bool[np.ndarray, " n"]:
        """Which of so many images are members of a recurring defect."""
        members = [image for c in self.communities if c.verdict == "defect" for image in c.members]
        return np.isin(np.arange(images), members)

    @property
    def highest(self) -> int:
        """The highest number of a community or sighting; 0 where there is none."""
        return max([len(self.communities), *(sighting.number for sighting in self.sightings)])

    @property
    def flagged(self) -> Bool[np.ndarray, "n h w"]:
        """Patches that show a recurring defect."""
        return np.isin(self.shows, self.numbers("defect"))
