"""Extends results of distinct images to a list with identical copies [ours].

Identical images are one observation: all decisions use distinct images, and copies then get the same results.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from codegraph_jax.consistency.groups import RecurringPatterns, connected_groups, empty_graph


def patterns_with_copies(recurring: RecurringPatterns, original: Int[np.ndarray, " n"]) -> RecurringPatterns:
    """Adds copies to the groups of their originals, and as near-duplicates of them.

    `original` has, for each listed image, the index of its original among the distinct images; each of these occurs.
    """
    listed: dict[int, list[int]] = {}
    for image, distinct in enumerate(original.tolist()):
        listed.setdefault(distinct, []).append(image)

    def with_own_copies(images: Iterable[int]) -> tuple[int, ...]:
        return tuple(image for distinct in images for image in listed[distinct])

    groups = tuple(
        replace(
            group,
            members=with_own_copies(group.members),
            boxes=tuple(replace(box, image=image) for box in group.boxes for image in listed[box.image]),
        )
        for group in recurring.groups
    )
    matches = tuple(replace(m, images=tuple(sorted(with_own_copies(m.images)))) for m in recurring.matches)
    duplicates = ([listed[i][0] for i in group] for group in recurring.duplicates)
    graph = empty_graph()
    graph.add_nodes_from(range(len(original)))
    for first, second, data in recurring.graph.edges(data=True):
        links = [(listed[image][0], patch, listed[target][0]) for image, patch, target in data["links"]]
        graph.add_edge(listed[first][0], listed[second][0], weight=data["weight"], links=links)
    return replace(
        recurring,
        groups=groups,
        matches=matches,
        duplicates=connected_groups([*listed.values(), *duplicates]),
        views=tuple(tuple(sorted(with_own_copies(view))) for view in recurring.views),
        graph=graph,
        pattern_numbers=recurring.pattern_numbers[original]
        if len(recurring.pattern_numbers)
        else recurring.pattern_numbers,
    )
