"""Results of the consistency stages: groups of images that share a pattern, and photos of the same part."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.consistency.pattern import Pattern, PatternVerdict, Product
from codegraph_jax.consistency.signature import Signature
from codegraph_jax.consistency.spacing_law import SpacingLaw
from codegraph_jax.core.json_fields import JsonFields, not_in_json

if TYPE_CHECKING:
    import networkx as nx


def empty_graph() -> "nx.Graph":
    """A graph without nodes; networkx is imported when the first graph is made."""
    import networkx as nx

    return nx.Graph()


def connected_groups(chains: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more images that are connected by chains of images, in ascending order."""
    import networkx as nx

    graph = nx.Graph()
    for chain in chains:
        nx.add_path(graph, chain)
    return tuple(sorted(tuple(sorted(component)) for component in nx.connected_components(graph) if len(component) > 1))


@dataclass(frozen=True)
class PatchBox(JsonFields):
    """A rectangle of patches that show the pattern of a group on an image; edges are fractions of it in [0, 1]."""

    image: int
    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Evidence(JsonFields):
    """Measurements that distinguish a recurring defect from a harmless variant (`consistency.defect_or_variant`).

    Each is the median over the members of a group.

    Attributes:
        score_p_value: share of images in no group whose score is as high as the member's by non-members.
        repeat_distance_ratio: distance of the pattern to its nearest repeat, divided by that of the rest of the part.
        outside_distance_ratio: distance of the pattern to non-members, divided by that to members.
        distance_inequality_ratio: inequality of the pattern's distances to members, divided by that of the rest of the
            part.
    """

    score_p_value: float
    repeat_distance_ratio: float
    outside_distance_ratio: float
    distance_inequality_ratio: float


@dataclass(frozen=True)
class Group(JsonFields):
    """Images that share a pattern which other images lack: a recurring defect, or a harmless variant of good parts.

    Attributes:
        members: image indices, the most typical first.
        mean_links: mean number of selected links between two members.
        chance_p_value: probability of a group with as many links by chance.
        boxes: regions of the pattern in each member.
        verdict: only defects are filtered.
        evidence: measurements behind the verdict; None if too few images are in no group.
        name: name given by a person; may be empty.
        reviewed: whether a person gave the verdict.
        signature: appearance of the pattern, for recognition in other sets; None if too few patches show it.
    """

    members: tuple[int, ...]
    mean_links: float
    chance_p_value: float
    boxes: tuple[PatchBox, ...]
    verdict: PatternVerdict = "undecided"
    evidence: Evidence | None = None
    name: str = ""
    reviewed: bool = False
    signature: Signature | None = None


@dataclass(frozen=True)
class PatternMatch(JsonFields):
    """A known pattern, and the images on which it is recognised, ascending.

    The pattern has the counts of the previous batch. The number is that of a group that shares it, or a new one after
    those of the groups.
    """

    pattern: Pattern
    number: int
    images: tuple[int, ...]


@dataclass(frozen=True)
class FoundPattern:
    """A pattern in a set: a group, a known pattern that is recognised, or both.

    Attributes:
        number: number in the set, from 1.
        group: its group; None if the images on which the known pattern is recognised form none.
        match: the known pattern; None if none is recognised on the group.
    """

    number: int
    group: Group | None
    match: PatternMatch | None

    @property
    def images(self) -> list[int]:
        """Images that show it: members of the group, the most typical first, then others on which it is recognised."""
        members = self.group.members if self.group else ()
        return [*members, *(image for image in (self.match.images if self.match else ()) if image not in members)]

    @property
    def verdict(self) -> PatternVerdict:
        """The verdict on the pattern."""
        return self._group_or_known.verdict

    @property
    def name(self) -> str:
        """The name given by a person; may be empty."""
        return self._group_or_known.name

    @property
    def reviewed(self) -> bool:
        """Whether a person gave the verdict."""
        return self.group is None or self.group.reviewed

    @property
    def _group_or_known(self) -> Group | Pattern:
        if self.group:
            return self.group
        assert self.match, "a pattern without a group is a known one"
        return self.match.pattern

    def for_other_sets(self, product: Product | None, image_count: int) -> Pattern | None:
        """The pattern for recognition in other sets; None if too few patches show it.

        Args:
            product: common features of the images of the set.
            image_count: number of images in the set.
        """
        if self.match:
            return replace(self.match.pattern, member_count=len(self.images), image_count=image_count)
        if not self.group or self.group.signature is None or product is None:
            return None
        return Pattern(self.name, self.verdict, self.group.signature, product, len(self.images), image_count)


@dataclass(frozen=True)
class RecurringPatterns(JsonFields):
    """Recurring patterns, photos of the same part, and views among n images.

    Attributes:
        groups: groups of images with a recurring pattern, the strongest first.
        duplicates: groups of photos of the same part.
        views: groups of images of the same view (pose or mould) without a common defect.
        graph: the image graph (`networkx.Graph`); nodes are image indices, edges have `weight` and `links`.
        pattern_numbers: number, of a group or match, of the pattern on each patch; 0: none [n, h, w].
        spacing_law: fit of the spacing law, on which the links rest; None if it was not measured.
        matches: known patterns of this product.
        others: known patterns of other products.
        product: common features of the images; None without groups.
    """

    groups: tuple[Group, ...] = ()
    duplicates: tuple[tuple[int, ...], ...] = ()
    views: tuple[tuple[int, ...], ...] = ()
    graph: Any = field(default_factory=empty_graph, metadata=not_in_json())
    pattern_numbers: Int[np.ndarray, "n h w"] = field(
        default_factory=lambda: np.zeros((0, 0, 0), np.int16), metadata=not_in_json()
    )
    spacing_law: SpacingLaw | None = None
    matches: tuple[PatternMatch, ...] = ()
    others: tuple[Pattern, ...] = ()
    product: Product | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(str(len(group.members)) for group in self.groups)
        return f"RecurringPatterns({len(self.groups)} groups{f' of {sizes} images' if sizes else ''})"

    @property
    def patterns(self) -> list[FoundPattern]:
        """The groups, then the known patterns that are recognised on single images, in the order of their numbers."""
        matches = {match.number: match for match in self.matches}
        last = max([len(self.groups), *matches])
        groups = [*self.groups, *[None] * (last - len(self.groups))]
        return [FoundPattern(number, group, matches.get(number)) for number, group in enumerate(groups, 1)]

    def with_verdict(self, verdict: PatternVerdict) -> list[FoundPattern]:
        """The patterns with this verdict."""
        return [pattern for pattern in self.patterns if pattern.verdict == verdict]

    def numbers_by_image(self) -> dict[int, int]:
        """The pattern on each image that shows one; of several, the first defect or else the first pattern."""
        ranked = sorted(self.patterns, key=lambda pattern: (pattern.verdict == "defect", -pattern.number))
        return {image: pattern.number for pattern in ranked for image in pattern.images}

    def defect_members(self, image_count: int) -> Bool[np.ndarray, " n"]:
        """Which of the set's images are members of a recurring defect; `image_count` is their number."""
        members = [image for group in self.groups if group.verdict == "defect" for image in group.members]
        return np.isin(np.arange(image_count), members)

    def as_json(self) -> dict[str, Any]:
        """Values for JSON, without `pattern_numbers`; `from_json` reads them."""
        return super().as_json() | {"nodes": list(self.graph.nodes), "edges": list(self.graph.edges(data=True))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], **others: Any) -> "RecurringPatterns":
        """Reads the values of `as_json`, with `pattern_numbers`.

        Raises:
            KeyError, TypeError, ValueError: the values are malformed.
        """
        graph, rest = empty_graph(), dict(values)
        nodes, edges = rest.pop("nodes"), rest.pop("edges")
        if not isinstance(nodes, list) or not isinstance(edges, list):
            raise TypeError("nodes and edges: expected lists")
        graph.add_nodes_from(map(operator.index, nodes))
        for first, second, data in edges:
            graph.add_edge(first, second, weight=data["weight"], links=[tuple(link) for link in data["links"]])
        return super().from_json(rest, graph=graph, **others)

    @property
    def defect_patches(self) -> Bool[np.ndarray, "n h w"]:
        """Patches that show a recurring defect."""
        return np.isin(self.pattern_numbers, [pattern.number for pattern in self.with_verdict("defect")])
