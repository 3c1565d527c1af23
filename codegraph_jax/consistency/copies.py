"""Extends results of distinct images to a list with identical copies [ours].

Identical images are one observation: all decisions use distinct images, and copies then get the same results.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from codegraph_jax.consistency.groups import Consistency, connected_groups, empty_graph


def with_copies(found: Consistency, place: Int[np.ndarray, " n"]) -> Consistency:
    """Adds copies to the groups of their originals, and as near-duplicates of them.

    `place` has, for each listed image, the index of its original among the distinct images; each of these occurs.
    """
    listed: dict[int, list[int]] = {}
    for image, distinct in enumerate(place.tolist()):
        listed.setdefault(distinct, []).append(image)

    def with_own_copies(images: Iterable[int]) -> tuple[int, ...]:
        return tuple(image for distinct in images for image in listed[distinct])

    groups = tuple(
        replace(
            group,
            members=with_own_copies(group.members),
            boxes=tuple(replace(box, image=image) for box in group.boxes for image in listed[box.image]),
        )
        for group in found.groups
    )
    matches = tuple(replace(match, images=tuple(sorted(with_own_copies(match.images)))) for match in found.matches)
    graph = empty_graph()
    graph.add_nodes_from(range(len(place)))
    for first, second, data in found.graph.edges(data=True):
        links = [(listed[image][0], patch, listed[target][0]) for image, patch, target in data["links"]]
        graph.add_edge(listed[first][0], listed[second][0], weight=data["weight"], links=links)
    return replace(
        found,
        groups=groups,
        matches=matches,
        duplicates=connected_groups([*listed.values(), *([listed[i][0] for i in group] for group in found.duplicates)]),
        views=tuple(tuple(sorted(with_own_copies(view))) for view in found.views),
        graph=graph,
        pattern_ids=found.pattern_ids[place] if len(found.pattern_ids) else found.pattern_ids,
    )
