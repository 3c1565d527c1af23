"""Recurring groups of a list in which some images occur more than once [ours].

Identical images count as one observation, however often they are listed: everything is decided on distinct images, and
their copies get the same results afterwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import networkx as nx
import numpy as np
from jaxtyping import Int

from codegraph_jax.consistency.community import Consistency


def with_copies(found: Consistency, place: Int[np.ndarray, " n"]) -> Consistency:
    """What was found among distinct images, of all images.

    Copies belong to whatever their originals do, and are near-duplicates of them.

    Args:
        found: of the distinct images.
        place: for each image of the listing its place among the distinct ones; every distinct image occurs.
    """
    listed: dict[int, list[int]] = {}
    for image, distinct in enumerate(place.tolist()):
        listed.setdefault(distinct, []).append(image)

    def spread(images: Iterable[int]) -> tuple[int, ...]:
        return tuple(image for distinct in images for image in listed[distinct])

    communities = tuple(
        replace(
            community,
            members=spread(community.members),
            boxes=tuple(replace(box, image=image) for box in community.boxes for image in listed[box.image]),
        )
        for community in found.communities
    )
    sightings = tuple(replace(seen, images=tuple(sorted(spread(seen.images)))) for seen in found.sightings)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(place)))
    for first, second, data in found.graph.edges(data=True):
        links = [(listed[image][0], patch, listed[target][0]) for image, patch, target in data["links"]]
        graph.add_edge(listed[first][0], listed[second][0], weight=data["weight"], links=links)
    return replace(
        found,
        communities=communities,
        sightings=sightings,
        duplicates=_groups(found.duplicates, listed),
        views=tuple(tuple(sorted(spread(view))) for view in found.views),
        graph=graph,
        shows=found.shows[place] if len(found.shows) else found.shows,
    )


def _groups(duplicates: Sequence[Sequence[int]], listed: Mapping[int, Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Photographs of one part, two or more each: near-duplicates of distinct images, joined with all copies."""
    graph = nx.Graph()
    for images in listed.values():
        nx.add_path(graph, images)
    for group in duplicates:
        nx.add_path(graph, [listed[distinct][0] for distinct in group])
    return tuple(sorted(tuple(sorted(part)) for part in nx.connected_components(graph) if len(part) > 1))
