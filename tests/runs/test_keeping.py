"""Runs that use results of earlier ones: cache, added images, saved bank."""

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

from codegraph_jax.commands.launch import TOO_FEW, status_of
from codegraph_jax.config import (
    BankConfig,
    Config,
    DataConfig,
    InspectConfig,
    PhotosConfig,
    SavedBankConfig,
    ThresholdConfig,
)
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.line.settings import WatchConfig
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks import inspect as inspect_task
from codegraph_jax.tasks import watch
from tests.support.networks import random_backbone
from tests.support.processes import run_python

BACKBONE = random_backbone()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of twelve drawn parts, and one of three more."""
    home = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(draw_set(15, 56, 3, 0.2, (0.3,)).images):
        place = home / ("night" if i < 12 else "day") / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(place)
    return home


@pytest.fixture(scope="module")
def night(photos):
    """A run with cache and saved bank."""
    data = DataConfig(root=str(photos / "night"), cache=str(photos / "cache"), add=(str(photos / "day"),))
    bank = BankConfig(save=str(photos / "bank.safetensors"), kind="exact")
    detect_task.run(Config(data=data, backbone=BACKBONE, bank=bank), str(photos / "run"))
    return photos


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as stream:
        return {Path(row["path"]).name: row for row in csv.DictReader(stream)}


def test_added_images_stand_in_the_results(night):
    found = rows(night / "run" / "scores.csv")
    assert len(found) == 15
    assert found["13.png"]["path"] == str(night / "day" / "13.png")
    assert found["13.png"]["category"] == "night"
    assert all(row["flagged"] in ("0", "1") for row in found.values())
    assert (night / "run" / "heatmaps" / "night" / "added" / "13.png.png").is_file()


def test_the_inspector_agrees_with_the_run(night, capsys):
    config = InspectConfig(
        bank=SavedBankConfig(str(night / "bank.safetensors")),
        data=PhotosConfig(root=str(night / "day")),
    )
    inspect_task.run(config, str(night / "inspected"))
    was, now = rows(night / "run" / "scores.csv"), rows(night / "inspected" / "scores.csv")
    assert set(now) == {"12.png", "13.png", "14.png"}
    for name, row in now.items():
        assert float(row["score"]) == pytest.approx(float(was[name]["score"]), abs=5e-5)
        assert row["flagged"] == was[name]["flagged"]
        assert (night / "inspected" / "heatmaps" / "day" / f"{name}.png").is_file()
    printed = capsys.readouterr().out
    assert "how unusual" in printed and " good parts " in printed
    assert "of 3 photos flagged" in printed
    # counts and warnings of the bank's photos do not apply to these three
    assert '"explanation":{"t":"threshold_bank"' in (night / "inspected" / "report.html").read_text(encoding="utf-8")


def test_a_second_run_reports_that_nothing_was_computed(night, tmp_path, capsys):
    data = DataConfig(root=str(night / "night"), cache=str(night / "cache"))
    detect_task.run(Config(data=data, backbone=BACKBONE), str(tmp_path))
    assert "features: 12 of 12 from the cache" in capsys.readouterr().out
    was, now = rows(night / "run" / "scores.csv"), rows(tmp_path / "scores.csv")
    for name, row in now.items():
        assert {k: v for k, v in row.items() if k != "rank"} == {k: v for k, v in was[name].items() if k != "rank"}


@pytest.mark.parametrize(
    "data,bank,message",
    [
        ({"add": ("no such directory",)}, {}, "config.data.add: 'no such directory' does not exist"),
        ({}, {"save": "bank.npz"}, "config.bank.save: 'bank.npz' does not end in .safetensors"),
    ],
)
def test_invalid_settings_are_refused(photos, tmp_path, data, bank, message):
    config = Config(data=DataConfig(root=str(photos / "night"), **data), backbone=BACKBONE, bank=BankConfig(**bank))
    with pytest.raises(ConfigError, match=message):
        detect_task.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "path,message", [("", "is empty"), ("absent.safetensors", "--save-bank=FILE.safetensors makes")]
)
def test_an_inspection_without_a_bank_is_refused(photos, tmp_path, path, message):
    config = InspectConfig(bank=SavedBankConfig(path), data=PhotosConfig(root=str(photos / "day")))
    with pytest.raises(ConfigError, match=message):
        inspect_task.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_bank_of_few_photos_passes_none_of_many_photos(photos, tmp_path, capsys):
    """The size of the bank's set matters, not the number of inspected photos."""
    few, bank = tmp_path / "few", tmp_path / "few.safetensors"
    shutil.copytree(photos / "night", few, ignore=shutil.ignore_patterns("6.png", "7.png", "8.png", "9.png", "1?.png"))
    config = Config(data=DataConfig(root=str(few)), backbone=BACKBONE, bank=BankConfig(save=str(bank)))
    (made,) = detect_task.run(config, str(tmp_path / "run"))
    inspected = InspectConfig(
        bank=SavedBankConfig(str(bank)), data=PhotosConfig(root=str(photos / "night")),
        threshold=ThresholdConfig("score:1.99"),
    )  # fmt: skip
    (outcome,) = inspect_task.run(inspected, str(tmp_path / "inspected"))
    assert len(made.samples) == 6 and outcome.result.verdicts == ["unknown"] * 12
    assert status_of([outcome]) == TOO_FEW
    note = "the bank was made from 6 photos, too few for reliable verdicts: make it from at least 12"
    assert f"night: {note}" in capsys.readouterr().out
    watched = WatchConfig(bank=SavedBankConfig(str(bank)))
    with watch.opened_line(watched, tmp_path / "line"):
        assert note in capsys.readouterr().out


def test_photos_that_are_added_to_a_small_set_do_not_make_it_large(photos, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(photos / "night", few, ignore=shutil.ignore_patterns("1?.png"))
    data = DataConfig(root=str(few), add=(str(photos / "day"),))
    (outcome,) = detect_task.run(
        Config(data=data, backbone=BACKBONE, threshold=ThresholdConfig("score:1.99")), str(tmp_path)
    )
    assert outcome.result.verdicts == ["unknown"] * 13


def test_an_inspection_of_unreadable_photos_is_an_error(night, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    config = InspectConfig(
        bank=SavedBankConfig(str(night / "bank.safetensors")), data=PhotosConfig(root=str(tmp_path / "images"))
    )
    with pytest.raises(UserError, match="no photo can be read"):
        inspect_task.run(config, str(tmp_path / "run"))


@pytest.mark.slow  # the commands' tasks run in process in this file, and codegraph itself in tests/commands
def test_the_commands_of_the_config(photos, tmp_path):
    """`codegraph detect --save-bank` and `codegraph inspect`, with small images and drawn weights."""
    bank = tmp_path / "parts.safetensors"
    small = [f"--config.backbone.{k}={v}" for k, v in
             (("name", "dinov2-small"), ("weights", "random"), ("image_size", 56), ("blocks", "(1,3)"))]  # fmt: skip
    night, day = photos / "night", photos / "day"
    commands = (
        ["detect", f"--config.data.root={night}", f"--config.data.add={day}", f"--config.bank.save={bank}", *small],
        ["inspect", f"--config.data.root={day}", f"--config.bank.path={bank}"],
    )
    for number, words in enumerate(commands):
        run_python("-m", "codegraph_jax", *words, f"--workdir={tmp_path / str(number)}", status=0)
    assert len(rows(tmp_path / "0" / "scores.csv")) == 15
    assert len(rows(tmp_path / "1" / "scores.csv")) == 3
