"""Sweeps over objectives, classes and seeds: the runs that are trained or resumed, and the table."""

import json
import re

import pytest

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError
from studies.sweeps import training as task
from tests.studies.conftest import training_results
from tests.support.training import small_training


@pytest.fixture
def trained(monkeypatch):
    """Trained runs: (objective, OE images, class, seed); a finished one is not trained again."""
    calls = []

    def train(config, home):
        found = (config.train.objective, config.oe.image_count, config.data.target, config.seed)
        if config.data.target == "bar":
            raise UserError("no such class")
        if not (home / "results.json").exists():
            calls.append(found)
            home.mkdir(parents=True)
            gain = 0.1 * (config.train.objective == "oecl") + 0.01 * config.seed
            (home / "results.json").write_text(json.dumps(training_results(0.6 + gain)))
        return json.loads((home / "results.json").read_text())

    monkeypatch.setattr(task, "train", train)
    return calls


def test_cells_are_all_modes_classes_and_seeds(tmp_path, trained, capsys):
    config, vary = small_training(), ["train.objective=simclr,oecl"]
    sweep = task.run(config, str(tmp_path), vary, ["disc", "ring"], seeds=[0, 1])
    assert [run[0::2] for run in trained[:3]] == [("simclr", "disc"), ("oecl", "disc"), ("simclr", "ring")]
    assert len(trained) == 8 and len(sweep.cells) == 8
    assert sweep.table()[0] == ["train.objective", "AUROC", "AUPR-in", "AUPR-out", "FPR95"]
    assert [row[:2] for row in sweep.table()[1]] == [["simclr", "60.5 ± 0.7"], ["oecl", "70.5 ± 0.7"]]
    assert all(sweep.table()[2][1][1:]), "OECL has the best values, with the smaller FPR95"
    assert re.search(r"oecl +\+10.0 \[\+10.0, \+10.0\]", capsys.readouterr().out)
    assert "auroc_clean" in (tmp_path / "sweep.csv").read_text().splitlines()[0]
    task.run(config, str(tmp_path), ["train.objective=simclr,oecl"], ["disc", "ring"], seeds=[0, 1, 2])
    assert len(trained) == 12, "finished runs are kept"


def test_all_classes_of_one_seed_by_default(tmp_path, trained):
    task.run(small_training(), str(tmp_path), [], ["all"])
    assert [run[2] for run in trained] == ["disc", "ring", "square", "cross", "triangle", "dots", "crescent"]
    assert [run[1] for run in trained] == [None] * 7


def test_a_failed_run_is_listed_and_the_others_continue(tmp_path, trained, capsys):
    sweep = task.run(small_training(), str(tmp_path), ["oe.image_count=1,10"], ["bar", "disc"])
    assert [run[1:3] for run in trained] == [(1, "disc"), (10, "disc")]
    assert sweep.missing == 2 and sweep.problems["1, class bar, seed 0"] == "no such class"
    assert "10, class bar, seed 0: no such class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vary": ["seed=1,2"]}, "seed cannot be varied"),
        ({"vary": ["train.objective=oce,oecl"]}, "config.train.objective: 'oce' is not one of"),
        ({"vary": ["oe.image_count=-1,3"]}, "config.oe.image_count: -1 is below 1"),
    ],
)
def test_invalid_sweeps_are_refused(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        task.run(small_training(), str(tmp_path), **given)
