"""The command line: results and messages for good and for bad input."""

import csv
import json

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.commands import main
from tests.support.networks import RANDOM_FLAGS
from tests.support.photos import write_photos
from tests.support.processes import run_python


def test_a_folder_of_photos_is_ranked(tmp_path):
    write_photos(tmp_path / "photos", n=5)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    work = tmp_path / "work"
    words = ("--config=configs/folder.py", f"--workdir={work}", f"--config.data.root={tmp_path}/photos", *RANDOM_FLAGS)
    ended = run_python("main.py", *words, status=0)
    assert "not trained" in ended.stdout, "the weights are named"
    assert "1 of 6 photos cannot be read" in ended.stderr
    rows = list(csv.DictReader((work / "scores.csv").open()))
    assert sorted(int(row["rank"]) for row in rows) == [1, 2, 3, 4, 5]
    assert list(rows[0])[:6] == ["path", "category", "label", "score", "score_rescored", "rank"]
    manifest = json.loads((work / "manifest.json").read_text())
    assert manifest["config"]["backbone"]["image_size"] == 56
    assert manifest["versions"]["jax"] and manifest["seconds"]["backbone"] > 0
    assert {row["path"] for row in rows} == {str(tmp_path / "photos" / f"part {i}.png") for i in range(5)}
    assert (work / "report.html").is_file()
    assert np.load(work / "maps.npz")["photos"].dtype == np.float16
    metrics = json.loads((work / "metrics.json").read_text())
    assert metrics["mean"]["image_auroc"] is None


def test_the_exit_status_of_bad_input_is_2_and_the_message_is_one_line(tmp_path):
    work = tmp_path / "work"
    ended = run_python("main.py", "--config=configs/folder.py", "--config.data.root=missing", f"--workdir={work}")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and "missing" in line
    assert not work.exists()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--config=configs/folder.py"], "config.data.root: is empty"),
        (["--config=configs/folder.py", "--config.data.root=missing"], "missing"),
        (["--config=configs/folder.py", "--config.data.root={one}", *RANDOM_FLAGS], "has one photo"),
        (["--config=configs/folder.py", "--config.data.root={empty}", *RANDOM_FLAGS], "contains no photos"),
        (["--config=configs/mvtec.py", "--config.data.root={many}", "--config.data.categories=('gear',)"], "many"),
        (
            [
                "--config=configs/folder.py",
                "--config.data.root={many}",
                *RANDOM_FLAGS,
                "--config.backbone.image_size=50",
            ],
            "56",
        ),
        (
            ["--config=configs/folder.py", "--config.data.root={many}", "--config.backbone.weights={text}"],
            "config.backbone.weights",
        ),
        (["--config=configs/folder.py", "--config.data.rooot=x"], "rooot"),
        (["--config=configs/oecl_demo.py", "--config.model.dtype=moon"], "is not one of float32, tf32, bfloat16"),
        (["--config=configs/folder.py", "stray"], "unexpected argument 'stray'"),
    ],
    ids=(
        "no root",
        "absent root",
        "one image",
        "no image",
        "wrong layout",
        "size",
        "weights",
        "field",
        "choice",
        "stray",
    ),
)
def test_bad_input_is_one_clear_line_and_leaves_no_files(tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_photos(tmp_path / "many")
    write_photos(tmp_path / "one", n=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("these are no weights")
    places = {name: str(tmp_path / name) for name in ("many", "one", "empty")} | {
        "text": f"{tmp_path}/text.safetensors"
    }
    work = tmp_path / "work"
    ended = main(*(argument.format(**places) for argument in arguments), f"--workdir={work}")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not work.exists()
