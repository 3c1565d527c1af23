"""Tables of several runs: what runs, what goes on, and what the table says."""

import dataclasses
import json

import pytest

from codegraph_jax.core.settings import ConfigError
from contrastive_jax.evaluation.scores import SCORES
from studies import oecl_study as study
from studies.oecl_study import measured, read_study_config, run_study, table
from tests.contrastive.meshes import small_config


def settings(**values):
    return read_study_config({"run": dataclasses.asdict(small_config()), **values})


def rows_of(config, home, targets):
    return table(config, measured(config, home, targets), targets)


def finish(home, value):
    home.mkdir(parents=True, exist_ok=True)
    (home / "results.json").write_text(json.dumps({"auroc": {name: {"pooled": value} for name in SCORES}}))


def test_table_of_modes(tmp_path):
    for seed, shift in ((0, 0.0), (1, 0.02)):
        for target, value in (("0", 0.6), ("3", 0.8)):
            finish(tmp_path / f"oecl_{target}_{seed}", value + shift)
    both = settings(modes=("oecl", "simclr"), seeds=(0, 1), classes=("0", "3"))
    rows = rows_of(both, tmp_path, ["0", "3"])
    assert rows[0] == ("mode, score", "class 0", "class 3", "mean", "sd of seeds")
    assert rows[1] == ("oecl, mean_feature", "61.0", "81.0", "71.0", "1.4")
    assert rows[4][1:] == ("nan", "nan", "nan", "nan")
    home = tmp_path / "oecl_0_0"
    results = json.loads((home / "results.json").read_text())
    results["metrics"] = {name: {"fpr95": {"value": 0.3}} for name in SCORES}
    (home / "results.json").write_text(json.dumps(results))
    rates = settings(modes=("oecl",), classes=("0",), metric="fpr95")
    assert rows_of(rates, tmp_path, ["0"])[1] == ("oecl, mean_feature", "30.0", "30.0", "-")


def test_a_study_varies_a_field_and_goes_on(tmp_path, monkeypatch, capsys):
    trained = []

    def train(config, home):
        trained.append((config.oe.images, config.train.mode, config.seed, config.data.target))
        finish(home, 0.5 + 0.1 * len(str(config.oe.images)) + (config.train.mode == "oecl") * 0.05)

    monkeypatch.setattr(study, "train", train)
    finish(tmp_path / "oe.images=10_hsc_disc_0", 0.4)
    varied = settings(modes=("oecl", "hsc"), classes=("disc",), vary="oe.images", values=("1", "10", "0"))
    rows = run_study(varied, tmp_path)
    assert trained == [
        (1, "oecl", 0, "disc"),
        (1, "hsc", 0, "disc"),
        (10, "oecl", 0, "disc"),
        (0, "oecl", 0, "disc"),
    ] + [(0, "hsc", 0, "disc")]
    assert rows[0] == ("oe.images", "mode", "class disc", "mean", "sd of seeds")
    assert [row[:3] for row in rows[1:5]] == [
        ("1", "oecl", "65.0"),
        ("1", "hsc", "60.0"),
        ("10", "oecl", "75.0"),
        ("10", "hsc", "40.0"),
    ]
    assert "AUROC, percent" in capsys.readouterr().out and (tmp_path / "study.png").stat().st_size > 5000
    kept = json.loads((tmp_path / "study.json").read_text())["runs"]
    assert {"oe.images": "10", "mode": "hsc", "target": "disc", "seed": 0, "score": "clean", "auroc": 40.0} in kept
    run_study(varied, tmp_path)
    assert len(trained) == 5
    run_study(settings(modes=("simclr",)), tmp_path / "all")
    assert [target for _, mode, _, target in trained if mode == "simclr"] == [
        "disc",
        "ring",
        "square",
        "cross",
        "triangle",
        "bar",
        "dots",
        "crescent",
    ]


def test_the_growth_of_norms_is_that_of_all_runs(tmp_path):
    both = settings(modes=("oecl", "simclr"), classes=("0", "3"))
    for run in study._runs(both, ["0", "3"]):
        finish(tmp_path / run.name, 0.5)
        shift = float(run.target)
        lines = [
            {"kind": "test", "epoch": epoch, "step": epoch, "clean_normal": epoch + shift, "clean_unseen": 1.0}
            | {"clean_oe": 0.5 if run.mode == "oecl" else None}
            for epoch in (0, 2)
        ]
        (tmp_path / run.name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [run for run in study._runs(both, ["0", "3"]) if run.mode == "simclr"]
    assert study._grown(tmp_path, rows) == [
        {"epoch": 0, "clean_normal": 1.5, "clean_oe": None, "clean_unseen": 1.0},
        {"epoch": 2, "clean_normal": 3.5, "clean_oe": None, "clean_unseen": 1.0},
    ]
    run_study(both, tmp_path)
    assert (tmp_path / "growth.png").stat().st_size > 5000
    (tmp_path / rows[0].name / "metrics.jsonl").write_text("")
    assert study._grown(tmp_path, rows) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vary": "oe.imagess", "values": ("1",)}, "config.vary: there is no field 'oe.imagess'"),
        ({"vary": "oe", "values": ("1",)}, "config.vary: there is no field 'oe'"),
        ({"vary": "oe.images", "values": ("many",)}, "config.values: 'many' is not a value of oe.images"),
        ({"vary": "oe.images"}, "config.vary, config.values"),
        ({"vary": "oe.images", "values": ("-1",)}, "config.oe.images"),
        ({"modes": ()}, "config.modes"),
        ({"modes": ("oce",)}, "config.modes"),
        ({"run": {"train": {"epochs": 0}}}, "config.run.train.epochs"),
    ],
)
def test_studies_that_cannot_work(values, message):
    with pytest.raises(ConfigError, match=message):
        settings(**values)


def test_values_take_the_type_of_the_field():
    varied = settings(vary="augment.crop_scale", values=("0.5,1",), classes=("0",))
    assert next(study._runs(varied, ["0"])).config.augment.crop_scale == (0.5, 1.0)
    named = settings(vary="oe.classes", values=("fish,bears",), classes=("0",))
    assert next(study._runs(named, ["0"])).config.oe.classes == ("fish", "bears")
