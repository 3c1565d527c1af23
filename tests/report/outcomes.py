"""A small run for reports: drawn images with a bright defect, scores that match it, and one recurring group."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from PIL import Image

from codegraph_jax.consistency.groups import Evidence, Group, PatchBox, RecurringPatterns
from codegraph_jax.consistency.pattern import PatternVerdict, Product
from codegraph_jax.consistency.signature import Signature
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import everything
from codegraph_jax.data.samples import Sample
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.maps import anomaly_maps
from tests.support.made_results import decided, made_result

GRID, SIZE, WEIGHTS = 8, 64, "drawn weights <v1>"

HOSTILE = (
    "<img src=x onerror=alert(1)>.png",
    "\"quoted\" & 'single'.png",
    "two\nlines.png",
    "bytes\udcff.png",
    "</script><script>alert(1)<!--.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "a#b?c%20d:e.png",
    "\u202egnp.exe.png",
)
NAMES = [*(f"kind_{i % 2}/{i}.png" for i in range(12)), *HOSTILE]


def make_outcome(
    root: Path,
    names: list[str],
    category: str = "part",
    anomalous: int = 4,
    recurring: int = 3,
    labelled: bool = False,
    seed: int = 0,
    image_size: tuple[int, int] = (80, 60),
    verdict: PatternVerdict = "defect",
) -> Outcome:
    """Writes images below `root` and makes their outcome.

    The first `anomalous` images have a defect, the first `recurring` of them the same one; every image has a
    colour of its own, by which a test can identify it.
    """
    rng = np.random.default_rng(seed)
    n = len(names)
    patch_scores = rng.uniform(0.1, 0.2, (n, GRID, GRID)).astype(np.float32)
    samples = []
    for i, name in enumerate(names):
        path = root / category / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", image_size, colour(i)).save(path)
        if i < anomalous:
            patch_scores[i, 2:4, 5:7] = 0.8 - 0.01 * i
        label = int(i < anomalous) if labelled else None
        samples.append(Sample(str(path), name, category, label))
    scores = np.asarray(anomaly_maps(patch_scores, SIZE)).max(axis=(1, 2))
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    members = tuple(range(recurring))
    graph.add_weighted_edges_from((a, b, 5.0 + a + b) for a in members for b in members if a < b)
    if n > recurring + 1:
        graph.add_edge(recurring, recurring + 1, weight=1.0, links=[(0, 1)])
    boxes = tuple(PatchBox(i, top=0.25, left=0.625, bottom=0.5, right=0.875) for i in members)
    evidence = Evidence(
        score_p_value=0.01, repeat_distance_ratio=1.5, outside_distance_ratio=1.4, distance_inequality_ratio=0.9
    )
    signature = Signature(rng.integers(-127, 127, (3, 2, 4)).astype(np.int8), np.full(3, 0.5, np.float32), 0.6, 2)
    community = Group(members, 7.5, 0.001, boxes, verdict, evidence, signature=signature)
    communities = (community,) if recurring else ()
    product = Product(rng.integers(-127, 127, 5).astype(np.int8), 0.9) if recurring else None
    result = made_result(
        scores,
        samples,
        unreadable=[(n, "broken <b>.png: truncated")],
        patch_scores=patch_scores,
        scores_rescored=scores / scores.max(),
        placement=Placement.whole(Frame.squeezed(SIZE, SIZE // GRID), np.tile(image_size, (n, 1))),
        weights_name=WEIGHTS,
        feature_identity={"weights": WEIGHTS, "image_size": SIZE},
        recurring=RecurringPatterns(
            communities, duplicates=((4, 5),), views=((6, 7, 8),), graph=graph, product=product
        ),
        keys=tuple(hashlib.sha256(f"{category} {name}".encode(errors="surrogateescape")).hexdigest() for name in names),
        scores_by_name=both_scores(scores),
    )
    metrics: dict[str, float | None] = {"image_auroc": 0.987 if labelled else None, "pixel_ap": None}
    return Outcome(category, result, metrics, [everything] * n)


def both_scores(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Two kinds of scores, the second of which ranks the photos in reverse."""
    return {"standard": scores, "contrast": -scores}


def with_scores(result: DetectionResult, scores: np.ndarray, **changes: Any) -> DetectionResult:
    """The result with other image scores, and the threshold of these."""
    return replace(result, **decided(scores) | {"scores_by_name": both_scores(scores)} | changes)


def colour(i: int) -> tuple[int, int, int]:
    """The colour of image i."""
    return (40 + 37 * i % 200, 30 + 91 * i % 210, 60 + 53 * i % 190)
