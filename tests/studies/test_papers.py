"""`codegraph reproduce`: tables of published and measured numbers."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codegraph_jax.backbones import PRESETS
from codegraph_jax.data.synthetic import draw_set, write_set
from contrastive_jax.evaluation.metrics import METRICS
from studies.papers import detection as task
from studies.papers import detection_tables as published
from studies.papers import training
from studies.papers import training_tables as oecl
from studies.papers.command import PAPERS, settings_of
from studies.papers.reproduction import MEAN, Published
from studies.sweeps import training as trainer_sweep
from tests.studies.conftest import training_results
from tests.support.commands import codegraph
from tests.support.tiny_backbones import GOLDEN

TABLES = [table for tables in published.PAPERS.values() for table in tables]
TINY = Published(
    "Parts, tiny network",
    "mvtec",
    {
        "backbone.name": "tiny-dinov2",
        "backbone.image_size": 24,
        "backbone.blocks": (0, 1),
        "recurring.defects": "off",
    },
    {
        "nut": {"image_auroc": 90.0, "pixel_ap": 10.0},
        "ring": {"image_auroc": 70.0, "pixel_ap": 20.0},
        "cap": {"image_auroc": 50.0, "pixel_ap": 30.0},
        MEAN: {"image_auroc": 70.0, "pixel_ap": 20.0},
    },
    ("nut", "ring", "cap"),
    "a table",
    "Parts, from the drawer",
)


@pytest.mark.parametrize("table", [table for table in TABLES if len(table.groups) > 1], ids=lambda table: table.title)
def test_published_means_are_those_of_their_rows(table):
    assert tuple(table.groups) == tuple(table.averaged_groups)
    for metric, mean in table.values[MEAN].items():
        rows = np.mean([table.values[group][metric] for group in table.groups])
        assert rows == pytest.approx(mean, abs=0.03), metric


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_settings_of_the_papers_pass_their_check(table):
    config = settings_of(table)
    assert config.backbone.name in PRESETS and config.data.layout in table.config
    assert {metric for row in table.values.values() for metric in row} <= {*published.COLUMNS, "pixel_f1_max"}


@pytest.mark.parametrize("table", oecl.PAPERS["oecl"], ids=lambda table: table.title)
def test_settings_of_oecl_pass_their_check(table):
    config = settings_of(table)
    loo = config.data.protocol == "leave_one_class_out"
    assert loo == ("leaving one class out" in table.title) and set(table.values[MEAN]) <= set(METRICS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("nut", "ring")):
        write_set(draw_set(8, 32, seed, 0.4, (0.0,)), tmp_path / "sets" / name)
    return tmp_path / "sets"


def test_available_data_and_weights_are_measured(root, tmp_path, tiny_presets, monkeypatch):
    monkeypatch.setitem(published.PAPERS, "musc", (TINY, replace(TINY, title="Other", changes={})))
    monkeypatch.setattr(task, "weights_are_installed", lambda preset: False)
    weights = GOLDEN / "dinov2.safetensors"
    words = ["reproduce", "musc", root, f"--weights=tiny-dinov2={weights}", f"--out={tmp_path / 'out'}"]
    ended = codegraph(*words)
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "out" / "reproduce.md").read_text()
    for text in (page, ended.stdout):
        assert "mean of 2 of 3" in text and "80.00" in text, "the published mean of the two"
        assert "cap of the data, Parts, from the drawer" in text
        assert "the weights of clip-vit-l14-336: hf download" in text, "of the other table"
    measured = [float(found) for found in re.findall(r"\| (?:nut|ring) \| image AUROC \| \S+ \| (\S+) \|", page)]
    (table,) = (tmp_path / "out").rglob("sweep.csv")
    stored = [100 * float(line.split(",")[2]) for line in table.read_text().splitlines()[1:]]
    np.testing.assert_allclose(measured, stored, atol=0.006)
    assert "published numbers: a table." in page.lower() and "config `mvtec`" in page


def test_without_data_only_missing_inputs_are_listed(tmp_path):
    ended = codegraph("reproduce", "musc", f"--out={tmp_path}")
    assert ended.returncode == 0, ended.stderr
    assert "missing: the data, VisA, https://github.com/amazon-science/spot-diff; give the directory" in ended.stdout
    page = (tmp_path / "reproduce.md").read_text()
    assert "| mean of 15 | image AUROC | 97.77 | - | - |" in page and "**Not measured**: the data, MVTec AD" in page
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["reproduce.md"]


def test_oecl_is_trained_on_its_sources(tmp_path, monkeypatch):
    trained = []

    def train(settings, home):
        trained.append((settings.data.train, settings.oe.source, settings.data.target, settings.seed))
        return training_results(0.9 + 0.01 * settings.seed)

    monkeypatch.setattr(trainer_sweep, "train", train)
    table = oecl.PAPERS["oecl"][0]
    config = settings_of(table)
    (none,) = training.run([(table, config)], tmp_path, [str(tmp_path / "absent.npz")])
    assert none.sweep is None and "absent.npz" in none.missing[0] and "cifar.html" in none.missing[0]
    (done,) = training.run([(table, config)], tmp_path, ["patterns", "patterns"], seeds=[0, 1])
    assert len(trained) == 20 and trained[0] == ("patterns", "patterns", "0", 0)
    assert done.rows() == [["mean of 10", "AUROC", "97.80", "90.50", "-7.30"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["musc", "--seeds=1"], "detection has no seed"),
        (["oecl", "--subsets=2"], "--subsets: a training run has seeds; give --seeds=0,1,2"),
        (["oecl", "--weights=resnet=/x"], "--weights: the networks are trained here"),
        (["oecl", "--classes=11"], "'11' is none of 0, 1, 2"),
        (["oecl", "--seeds=one"], "'one' is not a whole number"),
        (["must"], "there is no paper 'must'; name one of musc, codegraph, oecl"),
        (["musc", "--sets=1"], "--sets=1: no such flag"),
        (["musc", "--weights=clip"], "'clip' is not PRESET=FILE"),
        (["musc", "--weights=clip=/x"], "unknown preset 'clip'"),
    ],
)
def test_invalid_arguments_are_refused(words, message):
    ended = codegraph("reproduce", *words)
    assert ended.returncode == 2 and message in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_help_names_the_papers():
    shown = codegraph("reproduce", "--help").stdout
    assert all(paper in shown for paper in PAPERS) and "--weights PRESET=FILE" in shown
