"""Dataclasses as JSON: equal after reading, every value is checked, and errors name the field."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codegraph_jax.bank.file import StoredBank
from codegraph_jax.bank.history import BankRevision
from codegraph_jax.consistency.decision import Answers
from codegraph_jax.consistency.groups import Evidence, Group, PatchBox, PatternMatch, RecurringPatterns
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.pattern_patches import PatternTest
from codegraph_jax.consistency.review import ManualThreshold, PhotoReview, Review
from codegraph_jax.consistency.signature import Signature
from codegraph_jax.consistency.spacing_law import SpacingLaw
from codegraph_jax.core.json_fields import MALFORMED, JsonFields, plain
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.roi import Polygons
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.evaluation.changes import ScoredPhoto
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.normal_scores import TABLE, NormalScores
from codegraph_jax.scoring.threshold import Calibration, ThresholdWarning

NO_TENSORS: Any = dict.fromkeys(("backbone_config", "weights_name", "references", "calibration_set", "roi"))
LAW = NormalScores(0.3, 0.02, 0.9, 0.01, tuple(np.linspace(0.0, -9.0, len(TABLE)).tolist()))
CALIBRATION = Calibration(
    0.5, 0.4, decided_by="rate", expected_rate=0.01, set_size=34, image_count=30, normal_scores=LAW
)
SIGNATURE = Signature(np.ones((1, 1, 2), np.int8), np.ones(1, np.float32), 0.5, 3)
PRODUCT, FRAME = Product(np.ones(2, np.int8), 0.5), Frame("tile", (8, 20), 14, longest_patches=20, tile=8, overlap=2)
RANGE = ValueRange(0.0, 4095.0, (-1.0,), (0.0, 70.0), 2)
PATTERN = Pattern("tool mark", "variant", SIGNATURE, PRODUCT, 3, 40)
REVISION = BankRevision("2026-01-02T03:04:05", ("a.png",), ("ab12",), 1, (0,), False)
BOX = PatchBox(2, 0.0, 0.25, 0.5, 1.0)
GROUP = Group((0, 2), 3.5, 0.001, (BOX,), "defect", Evidence(0.1, 1.0, 2.0, 3.0), "scratch", True, None)
EXAMPLES: list[Any] = [
    RecurringPatterns(
        (GROUP,), ((1, 3),), matches=(PatternMatch(PATTERN, 2, (0, 5)),), others=(PATTERN,), product=PRODUCT
    ),
    LAW,
    CALIBRATION,
    PATTERN,
    BOX,
    Evidence(0.1, 1.0, 2.0, 3.0),
    GROUP,
    PatternMatch(PATTERN, 2, (0, 5)),
    PhotoReview("ab12", "a.png", "plate", "good", "looked twice", PATTERN),
    ManualThreshold("standard", 0.5),
    Answers({"ab12": PhotoReview("ab12")}, 0.5, "few", 0.2),
    PatternTest([1, 3], 1.5, 0.4),
    ThresholdWarning("many", 3, 40, 2),
    ScoredPhoto("a.png", None, 0.5, 0.4, 1, True, "flagged", None),
    Polygons((((0.0, 0.0), (4.0, 0.0), (4.0, 4.0)),), (), (8.0, 8.0)),
    SpacingLaw((1.0, 2.0, 3.0), {"normal": [1.0, 2.0]}, [0.05] * 20, 0.1, {"0.01": 0.02}),
    REVISION,
    FRAME,
    RANGE,
    StoredBank(
        **NO_TENSORS,
        patterns=[PATTERN],
        calibration=CALIBRATION,
        history=(REVISION,),
        heatmap_range=(0.1, 0.9),
        value_range=RANGE,
        frame=FRAME,
        product=PRODUCT,
        marks=(PATTERN,),
    ),
]
MAY_BE_NONE = (
    "product",
    "spacing_law",
    "threshold",
    "patch_threshold",
    "answer",
    "mark",
    "evidence",
    "signature",
    "value_range",
    "label",
    "group",
    "size",
)
OPTIONAL = {PhotoReview: {"name", "category", "note", "mark"}, Polygons: {"polygons", "excluded", "size"}}
HOSTILE = ([], {}, "", "name", ["name"], None, True, 10**400, -1, float("nan"), [[[]]], {"name": 1})


def from_text(cls: Any, values: Any) -> Any:
    others = {StoredBank: NO_TENSORS}.get(cls, {})
    return cls.from_json(json.loads(json.dumps(values)), **others)


def kind(example: object) -> str:
    return type(example).__name__


def test_every_class_has_an_example():
    # reviews and results are files with formats of their own: tests/consistency/test_review.py, tests/test_result.py
    assert {*map(type, EXAMPLES), Review, DetectionResult} == set(JsonFields.__subclasses__())


@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_objects_are_equal_after_json(example):
    values = example.as_json()
    again = from_text(type(example), values)
    assert again.as_json() == values and type(again) is type(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
@pytest.mark.parametrize("values", HOSTILE[:-1], ids=lambda value: repr(value)[:20])
def test_other_values_than_an_object_are_refused(example, values):
    with pytest.raises(MALFORMED):
        from_text(type(example), values)


@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_missing_and_unknown_names_are_refused(example):
    values = example.as_json()
    optional = OPTIONAL.get(type(example), set())
    for name in values.keys() - optional:
        with pytest.raises(KeyError, match=f"^.(missing: )?{name}[;']"):
            from_text(type(example), {key: value for key, value in values.items() if key != name})
    with pytest.raises(KeyError, match="unknown: colour;"):
        from_text(type(example), values | {"colour": "red"})


@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_hostile_values_are_refused_or_fit_the_field(example):
    values = example.as_json()
    for name in values:
        for hostile in HOSTILE:
            try:
                read = from_text(type(example), values | {name: hostile})
            except MALFORMED:
                continue
            again = from_text(type(example), read.as_json())
            assert json.dumps(again.as_json()) == json.dumps(read.as_json()), name
            accepted = {float: (float, int), list: (list,), dict: (dict,)}.get(
                type(values[name]), (type(values[name]),)
            )
            assert type(hostile) in accepted or name in MAY_BE_NONE, name


@pytest.mark.parametrize(
    ("made", "changes", "said"),
    [
        (PATTERN, {"verdict": "perhaps"}, "verdict: 'perhaps' is none of defect, variant, undecided"),
        (PATTERN, {"name": None}, "name: expected str, got None"),
        (PATTERN, {"name": "x" * 201}, "name: is not a text of at most 200"),
        (ManualThreshold("standard", 0.5), {"threshold": "0.5"}, "threshold: expected float, got '0.5'"),
        (PhotoReview("ab"), {"answer": "bad"}, "answer: 'bad' is none of defective, good, unsure"),
        (ValueRange(0.0, 1.0), {"high": 0.0}, "not a value range"),
    ],
)
def test_errors_of_new_objects_name_the_field(made, changes, said):
    with pytest.raises(ValueError, match=said):
        replace(made, **changes)


def test_numbers_of_numpy_become_numbers():
    assert json.dumps(plain({"a": (np.float32(0.5), [np.int64(3)]), "b": np.bool_(True)})) == (
        '{"a": [0.5, [3]], "b": true}'
    )
