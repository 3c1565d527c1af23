"""The study of recurring defects: values derived from one comparison equal those computed separately."""

import dataclasses
import json
import shutil
import types

import numpy as np
import pytest

from codegraph_jax.config import DrawConfig, SimilarityConfig
from codegraph_jax.consistency.groups import Evidence, Group, RecurringPatterns
from codegraph_jax.consistency.signature import Signature
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.synthetic import draw_set, write_set
from codegraph_jax.detector import CoDeGraph
from studies import recurring as study
from studies.recurring import RecurringStudyConfig, _with_fewer_references
from tests.support.networks import random_backbone, random_config

pytestmark = pytest.mark.usefixtures("shallow")


def test_fewer_references_are_those_of_a_run_with_that_limit():
    images = list(draw_set(9, 56, 0, 0.1, (0.3,)).images)
    config = random_config(backbone=random_backbone(blocks=(1,)))
    limited = CoDeGraph(dataclasses.replace(config, similarity=SimilarityConfig(references=4))).compare(images)
    derived = _with_fewer_references(CoDeGraph(config).compare(images), 4)
    np.testing.assert_array_equal(derived.references, limited.references)
    for got, want in zip(derived.tables, limited.tables, strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_study_lists_methods_and_groups(tmp_path, capsys):
    draw = DrawConfig(image_count=12, size=56, seed=0, one_off=0.1)
    detect = random_config(backbone=random_backbone(blocks=(1,)))
    study.run(RecurringStudyConfig(shares=(0.4,), draw=draw, detect=detect), str(tmp_path))
    methods = json.loads((tmp_path / "study.json").read_text())["methods"]
    assert [row["method"] for row in methods[:3]] == ["mutual scoring", "oracle", "f_test"]
    assert all(0 <= row["false_alarms"] <= 1 and 0 <= row["flagged_recall"] <= 1 for row in methods)
    assert "group precision" in capsys.readouterr().out


def test_an_image_that_is_listed_twice_is_measured_twice(tmp_path):
    write_set(draw_set(10, 56, 0, 0.2, (0.3,)), tmp_path / "sets" / "part")
    images = sorted((tmp_path / "sets" / "part" / "test").rglob("*.png"))
    shutil.copy(images[0], images[0].with_name("again.png"))
    detect = random_config(backbone=random_backbone(blocks=(1,)))
    study.run(RecurringStudyConfig(shares=(), roots=(str(tmp_path / "sets"),), detect=detect), str(tmp_path / "out"))
    methods = json.loads((tmp_path / "out" / "study.json").read_text())["methods"]
    assert {row["method"] for row in methods} >= {"mutual scoring", "oracle", "f_test"}


def test_groups_are_listed_with_their_evidence_and_get_the_verdicts_of_their_labels():
    samples = [Sample(f"{i}.png", f"{i}.png", "part", int(i < 4)) for i in range(8)]
    signature = Signature(np.ones((1, 1, 2), np.int8), np.ones(1, np.float32), 0.5, 1)
    communities = (
        Group((0, 1, 2), 3.0, 0.005, (), "defect", Evidence(0.01, 1.5, 1.4, 0.9), signature=signature),
        Group((3, 4, 5), 2.0, 0.01, (), "undecided", None, signature=signature),
        Group((6, 7, 1), 2.0, 0.01, (), "undecided", None),
    )
    result = types.SimpleNamespace(recurring=RecurringPatterns(communities))
    first, second, _ = study._groups(result, samples)
    assert (first["images"], first["anomalous"], first["verdict"], first["repeat_distance_ratio"]) == (
        3,
        1.0,
        "defect",
        1.5,
    )
    assert (second["anomalous"], second["verdict"], second["repeat_distance_ratio"]) == (1 / 3, "undecided", None)
    assert study._right_verdicts(result, samples) == {1: "defect", 2: "variant"}, "the third has no signature"
