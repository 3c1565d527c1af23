"""The study of answers: sets are read, answered by their labels, resampled, and reduced to few defects."""

import json

import numpy as np
import pytest

from codegraph_jax.config import ScoringConfig
from codegraph_jax.data.synthetic import draw_set, write_set
from studies import answers
from studies.answers import AnswersStudyConfig, balanced_accuracy, best_balanced_accuracy, f1
from tests.support.networks import random_config

pytestmark = pytest.mark.usefixtures("shallow")


def test_a_drawn_set_is_studied(tmp_path, capsys):
    write_set(draw_set(16, 56, 3, 0.3, ()), tmp_path / "sets" / "part")
    detect = random_config(scoring=ScoringConfig(rescore=False))
    config = AnswersStudyConfig(roots=(str(tmp_path / "sets"),), resample_count=1, shares=(0.0, 0.1), detect=detect)
    (row,) = answers.run(config, str(tmp_path / "study"))
    assert (row.name, row.photos, row.defective) == ("part", 16, 5)
    assert 0.5 <= row.best_balanced_accuracy <= 1 and 0 <= row.mutual_auroc <= 100
    assert 0 <= row.balanced_accuracy <= row.best_balanced_accuracy + 0.2
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [len(study[part]) for part in ("sets", "resampled", "few_defects")] == [1, 1, 2]
    assert study["few_defects"][0]["share"] == 0 and 3 <= study["few_defects"][0]["answers"] <= 20
    assert "balanced" in capsys.readouterr().out


def test_metrics_equal_a_calculation_by_hand():
    labels, flagged = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert balanced_accuracy(flagged, labels) == 0.5 and f1(flagged, labels) == 0.5
    assert best_balanced_accuracy(np.array([3.0, 2.0, 1.0, 0.0]), labels) == 1.0
    assert best_balanced_accuracy(np.array([0.0, 1.0, 2.0, 3.0]), labels) == 0.5
