"""Saves the result of a finished category in one file of arrays and JSON; values are restored bit for bit."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.consistency.decision import Answers
from codegraph_jax.consistency.groups import Consistency, Evidence, Group, PatchBox, PatternMatch, empty_graph
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.signature import Signature
from codegraph_jax.consistency.spacing_law import SpacingLaw
from codegraph_jax.core.tensors import DamagedTensorsError, read_tensors, write_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.threshold import Calibration

VARIANT = "variant_"
"""Prefix of the arrays of variants."""


def write_result(path: Path, result: DetectionResult) -> None:
    """Writes a result without its bank.

    Raises:
        OSError: the file cannot be written.
    """
    calibration, consistency = result.calibration, result.consistency
    arrays = {
        "kept": result.kept,
        "patch_scores": result.patch_scores,
        "scores": result.scores,
        "scores_rescored": result.scores_rescored,
        "p_values": calibration.p_values,
        "flagged": calibration.flagged,
        "pattern_ids": consistency.pattern_ids,
        "sizes": result.placement.sizes,
        "valid": np.zeros((0, 0), bool) if result.placement.inspected is None else result.placement.inspected,
        "products": np.zeros(0, int) if result.products is None else result.products,
        **{VARIANT + name: scores for name, scores in result.variant_scores.items()},
    }
    about = {
        "skipped": result.skipped,
        "frame": result.placement.frame.as_json(),
        "weights": result.weights,
        "feature_identity": dict(result.feature_identity),
        "seconds": result.seconds,
        "added": result.added,
        "from_cache": result.from_cache,
        "value_range": result.value_range.as_json() if result.value_range else None,
        "calibration": calibration.as_json(),
        "groups": [_plain_group(group) for group in consistency.groups],
        "matches": [{**vars(match), "pattern": match.pattern.as_json()} for match in consistency.matches],
        "others": [pattern.as_json() for pattern in consistency.others],
        "product": consistency.product.as_json() if consistency.product else None,
        "duplicates": consistency.duplicates,
        "views": consistency.views,
        "nodes": list(consistency.graph.nodes),
        "edges": list(consistency.graph.edges(data=True)),
        "spacing_law": asdict(consistency.spacing_law) if consistency.spacing_law else None,
        "keys": result.keys,
        "variant": result.variant,
        "variants": list(result.variant_scores),
        "answers": result.answers.as_json(),
        "compared": dict(result.compared),
    }
    write_tensors(path, {name: np.asarray(array) for name, array in arrays.items()}, _plain(about))


def read_result(path: Path) -> DetectionResult:
    """The result from a file of `write_result`.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedTensorsError: the file is damaged or has another format.
    """
    arrays, about = read_tensors(path)
    try:
        return _result(arrays, about)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedTensorsError(f"{type(error).__name__}: {error}") from None


def _result(arrays: dict[str, np.ndarray], about: Any) -> DetectionResult:
    graph = empty_graph()
    graph.add_nodes_from(about["nodes"])
    for first, second, data in about["edges"]:
        graph.add_edge(first, second, weight=data["weight"], links=[tuple(link) for link in data["links"]])
    fit = about["spacing_law"]
    return DetectionResult(
        kept=arrays["kept"],
        skipped=[(index, reason) for index, reason in about["skipped"]],
        patch_scores=arrays["patch_scores"],
        scores=arrays["scores"],
        scores_rescored=arrays["scores_rescored"],
        calibration=Calibration.from_json(about["calibration"], arrays["p_values"], arrays["flagged"]),
        placement=Placement(
            Frame.from_json(about["frame"]), arrays["sizes"], arrays["valid"] if len(arrays["valid"]) else None
        ),
        weights=about["weights"],
        feature_identity=about["feature_identity"],
        seconds=about["seconds"],
        consistency=Consistency(
            groups=tuple(_group(group) for group in about["groups"]),
            duplicates=tuple(tuple(group) for group in about["duplicates"]),
            views=tuple(tuple(group) for group in about["views"]),
            graph=graph,
            pattern_ids=arrays["pattern_ids"],
            spacing_law=SpacingLaw(**{**fit, "tail_index": tuple(fit["tail_index"])}) if fit else None,
            matches=tuple(
                PatternMatch(Pattern.from_json(match["pattern"]), match["number"], tuple(match["images"]))
                for match in about["matches"]
            ),
            others=tuple(Pattern.from_json(pattern) for pattern in about["others"]),
            product=Product.from_json(about["product"]) if about["product"] else None,
        ),
        added=about["added"],
        from_cache=about["from_cache"],
        value_range=ValueRange.from_json(about["value_range"]) if about["value_range"] else None,
        products=arrays["products"] if len(arrays["products"]) else None,
        keys=tuple(about["keys"]),
        variant=about["variant"],
        variant_scores={name: arrays[VARIANT + name] for name in about["variants"]},
        answers=Answers.from_json(about["answers"]),
        compared=about["compared"],
    )


def _plain_group(group: Community) -> dict[str, Any]:
    signature = group.signature.as_json() if group.signature else None
    return {**asdict(replace(group, signature=None)), "signature": signature}


def _group(values: dict[str, Any]) -> Group:
    built = {
        "members": tuple(values["members"]),
        "boxes": tuple(PatchBox(**box) for box in values["boxes"]),
        "evidence": Evidence(**values["evidence"]) if values["evidence"] else None,
        "signature": Signature.from_json(values["signature"]) if values["signature"] else None,
    }
    return Group(**{**values, **built})


def _plain(tree: Any) -> Any:
    """The tree with NumPy scalars as Python numbers, which JSON writes exactly."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return tree.item() if isinstance(tree, np.generic) else tree
