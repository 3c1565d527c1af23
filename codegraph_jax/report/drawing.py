"""Geometry of the image graph: which nodes and edges are drawn, and where."""

from collections.abc import Iterator
from dataclasses import dataclass

import networkx as nx
import numpy as np

from codegraph_jax.consistency.groups import Consistency

WIDTH, HEIGHT = 640.0, 400.0
MARGIN = 16.0
MOST_NODES, MOST_EDGES = 400, 1500
"""Limits for a legible drawing and a fast layout; members of groups and the strongest edges come first."""
SEED = 0
HUES = 8
"""Number of colours for groups."""


Area = tuple[float, float, float, float]
"""Left, top, width and height."""


@dataclass(frozen=True)
class Node:
    """An image: its position, and the colour of its group (from 1; 0 without)."""

    image: int
    x: float
    y: float
    hue: int


@dataclass(frozen=True)
class Edge:
    """A link between two images: `weight` in (0, 1], and the colour of their common group (0 without)."""

    x1: float
    y1: float
    x2: float
    y2: float
    weight: float
    hue: int


@dataclass(frozen=True)
class Drawing:
    """The graph in a WIDTH x HEIGHT box, and the numbers of nodes and edges that are left out."""

    nodes: list[Node]
    edges: list[Edge]
    hidden_nodes: int
    hidden_edges: int


def draw_graph(consistency: Consistency) -> Drawing:
    """Places the linked images by a force-directed layout with a fixed seed; images without links are left out."""
    group = {image: number for number, c in enumerate(consistency.groups, 1) for image in c.members}
    weighted = sorted(
        ((float(w), min(a, b), max(a, b)) for a, b, w in consistency.graph.edges(data="weight", default=1.0) if a != b),
        key=lambda edge: (-edge[0], edge[1], edge[2]),
    )
    strength: dict[int, float] = {}
    for weight, a, b in weighted:
        strength[a] = strength.get(a, 0.0) + weight
        strength[b] = strength.get(b, 0.0) + weight
    ranked = sorted(strength, key=lambda image: (image not in group, -strength[image], image))
    chosen = sorted(ranked[:MOST_NODES])
    kept = set(chosen)
    drawn = [edge for edge in weighted if edge[1] in kept and edge[2] in kept][:MOST_EDGES]
    graph = nx.Graph()
    graph.add_nodes_from(chosen)
    greatest = drawn[0][0] if drawn else 1.0
    # the square root prevents that one very strong group collapses into a point
    graph.add_weighted_edges_from((a, b, (weight / greatest) ** 0.5) for weight, a, b in drawn)
    position = _layout(graph)
    edges = []
    for weight, a, b in reversed(drawn):
        together = a in group and group[a] == group.get(b)
        edges.append(Edge(*position[a], *position[b], round(weight / greatest, 3), hue(group[a]) if together else 0))
    nodes = [Node(image, *position[image], hue(group[image]) if image in group else 0) for image in chosen]
    return Drawing(nodes, edges, len(ranked) - len(chosen), len(weighted) - len(drawn))


def hue(number: int) -> int:
    """Colour of a group, from 1 to HUES."""
    return (number - 1) % HUES + 1


def _layout(graph: nx.Graph) -> dict[int, tuple[float, float]]:
    """Positions of the nodes; each connected component has its own area, since components would drift apart."""
    parts = sorted((sorted(part) for part in nx.connected_components(graph)), key=lambda part: (-len(part), part[0]))
    areas = _areas(parts, (0.0, 0.0, WIDTH, HEIGHT)) if parts else []
    return {node: point for part, area in areas for node, point in _fill(graph, part, area).items()}


def _areas(parts: list[list[int]], area: Area) -> Iterator[tuple[list[int], Area]]:
    """Each component with its share of an area, which is split recursively along its longer side."""
    if len(parts) == 1:
        yield parts[0], area
        return
    left, top, width, height = area
    sizes = np.cumsum([len(part) + 1 for part in parts])
    cut = int(np.clip(np.searchsorted(sizes, sizes[-1] / 2) + 1, 1, len(parts) - 1))
    share = float(sizes[cut - 1] / sizes[-1])
    if width >= height:
        first, second = (left, top, width * share, height), (left + width * share, top, width * (1 - share), height)
    else:
        first, second = (left, top, width, height * share), (left, top + height * share, width, height * (1 - share))
    yield from _areas(parts[:cut], first)
    yield from _areas(parts[cut:], second)


def _fill(graph: nx.Graph, nodes: list[int], area: Area) -> dict[int, tuple[float, float]]:
    """Positions of one connected component by a force-directed layout that fills its area."""
    # a sorted copy, since the node order of a subgraph view is that of a set
    ordered = nx.Graph()
    ordered.add_nodes_from(nodes)
    edges = graph.subgraph(nodes).edges(data="weight")
    ordered.add_weighted_edges_from(sorted((min(a, b), max(a, b), w) for a, b, w in edges))
    positions = nx.spring_layout(ordered, seed=SEED, iterations=80)
    points = np.array([positions[node] for node in nodes])
    low, high = points.min(axis=0), points.max(axis=0)
    unit = np.where(high > low, (points - low) / np.where(high > low, high - low, 1.0), 0.5)
    box = np.maximum(np.array(area[2:]) - 2 * MARGIN, 0.0)
    start = np.array(area[:2]) + (np.array(area[2:]) - box) / 2
    return {node: (float(x), float(y)) for node, (x, y) in zip(nodes, np.round(start + unit * box, 1))}
