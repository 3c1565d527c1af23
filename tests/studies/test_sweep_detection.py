"""`codegraph sweep` on drawn parts with a tiny network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.config import Config, DataConfig, ParallelConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set, write_set
from codegraph_jax.detector import CoDeGraph, TooFewImagesError
from studies.sweeps import detection as task
from studies.sweeps.sweep import halves
from tests.support.commands import codegraph
from tests.support.tiny_backbones import PATCH, tiny_backbone

pytestmark = pytest.mark.usefixtures("tiny_presets")
SIDE = 6 * PATCH
BACKBONE = tiny_backbone(image_size=SIDE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sets")
    for seed, name in enumerate(("nut", "ring")):
        write_set(draw_set(12, 32, seed, 0.4, (0.0,)), home / name)
    return home


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the number of images of each comparison."""
    calls: list[int] = []
    usual = CoDeGraph.compare_set

    def counted(self, plan, *given):
        calls.append(len(plan.images))
        return usual(self, plan, *given)

    monkeypatch.setattr(CoDeGraph, "compare_set", counted)
    return calls


def settings(root: Path, **changes: object):
    data = DataConfig(layout="mvtec", root=str(root))
    return replace(Config(data=data, backbone=BACKBONE, parallel=ParallelConfig(devices=1)), **changes)


def test_a_sweep_compares_once_and_resumes(root, tmp_path, compared, capsys, monkeypatch):
    vary = ["scoring.score=standard,few", "recurring.defects=clear,off"]
    sweep = task.run(settings(root), str(tmp_path), vary, subsets=2)
    assert compared == [12, 12], "the four points share distances, and the halves too"
    assert len(sweep.cells) == 4 * 2 * 3 and not sweep.missing and not sweep.problems
    said = capsys.readouterr().out
    assert "24 cells: 4 combinations of settings, categories: 2, 3 sets of images each" in said
    assert "± standard deviation over 2 random halves" in said and "paired differences to standard, clear" in said
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert len(lines) == 25 and lines[0].startswith("scoring.score,recurring.defects,group,repeat,image_auroc,")
    again = task.run(settings(root), str(tmp_path), vary, subsets=2)
    assert len(compared) == 2, "finished cells are kept"
    assert (tmp_path / "sweep.csv").read_text().splitlines() == lines and again.markdown() == sweep.markdown()
    more = task.run(settings(root), str(tmp_path), [*vary, "scoring.fraction=0.3,0.6"], ["ring"], subsets=2)
    assert compared[2:] == [12], "only the named category, once for the new fraction"
    assert len(more.cells) == 8 * 3
    assert all(more.value(point, "image_auroc")[1] is not None for point in more.points)


def test_numbers_are_those_of_a_detection(root, tmp_path):
    sweep = task.run(settings(root), str(tmp_path), ["scoring.score=fine,standard"], ["nut"], subsets=1)
    detector = CoDeGraph(Config(backbone=BACKBONE))
    files = sorted((root / "nut" / "test").rglob("*.png"))
    samples = task.read_categories(DataConfig(layout="mvtec", root=str(root)), tmp_path)["nut"]
    assert len(files) == len(samples)
    cells = {(cell.values["scoring.score"], cell.repeat): cell for cell in sweep.cells}
    whole = detector.score(detector.compare([s.path for s in samples]), score="fine")
    np.testing.assert_allclose(cells["fine", "whole"].scores.values, whole.scores_rescored, atol=1e-6)
    half = [samples[i] for i in halves(12, 1, "nut")["half 1"]]
    alone = task.evaluate(detector.detect(half))
    for name, value in alone.items():
        assert cells["standard", "half 1"].metrics[name] == pytest.approx(value, abs=1e-6)
    assert cells["standard", "half 1"].images == 6 and cells["standard", "half 1"].scores is None


def test_halves_have_the_inspected_areas_of_their_photos(root, tmp_path):
    samples = task.read_categories(DataConfig(layout="mvtec", root=str(root)), tmp_path)["nut"]
    for sample in samples:
        mask = tmp_path / "areas" / sample.name
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 255, np.uint8)).save(mask)
    detector = CoDeGraph(Config(backbone=BACKBONE, data=DataConfig(roi=str(tmp_path / "areas"))))
    comparison, images = task._compare(detector, samples), np.array([1, 4, 7])
    areas = task._among(comparison, images).features.areas
    assert areas == [comparison.features.areas[i] for i in images]


def test_features_are_shared_by_settings_that_need_new_distances(root, tmp_path, monkeypatch):
    found = []
    usual = CoDeGraph.compare_set

    def noted(self, *given):
        comparison = usual(self, *given)
        found.append(comparison.features.from_store_count)
        return comparison

    monkeypatch.setattr(CoDeGraph, "compare_set", noted)
    task.run(settings(root), str(tmp_path), ["features.degrees=1|1,3"], ["nut"])
    assert found == [0, 12]
    assert not (tmp_path / "features").exists()


def test_a_point_that_cannot_run_is_listed(root, tmp_path, capsys):
    sweep = task.run(settings(root), str(tmp_path), ["backbone.name=tiny-dinov2,dinov2-small"], ["nut"])
    assert [cell.values["backbone.name"] for cell in sweep.cells] == ["tiny-dinov2"]
    assert list(sweep.problems) == ["dinov2-small"] and sweep.missing == 1
    assert "dinov2-small: " in (tmp_path / "table.md").read_text()
    assert "unfinished cells: 1;" in capsys.readouterr().out


def test_work_of_another_process_is_left_to_it(root, tmp_path, compared):
    config, store, claims = settings(root), task.CellStore(tmp_path), []

    class Claimed(task.CellStore):
        def claimed(self, *work):
            claims.append(work)
            return store.claimed(*work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "CellStore", Claimed)
        task.run(config, str(tmp_path), (), ["nut"])
    compared.clear()
    with store.claimed(*claims[0]):
        for path in store.root.glob("*.json"):
            path.unlink()
        sweep = task.run(config, str(tmp_path), (), ["nut"])
    assert not compared and sweep.missing == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vary": ["data.root=a,b"]}, "data.root cannot be varied"),
        ({"vary": ["scoring.score=standard,absent"]}, "config.scoring.score: no score is called 'absent'"),
        ({"vary": ["scoring.score=standard,absent.py:mine"]}, "there is no file"),
        ({"vary": ["scoring.fraction=0.1,2"]}, "--vary=scoring.fraction=2: 2 is above 1; write 2% for 0.02"),
    ],
)
def test_invalid_sweeps_are_refused(root, tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        task.run(settings(root), str(tmp_path), **given)
    assert not list(tmp_path.iterdir())


def test_too_few_images_for_halves_are_refused(tmp_path):
    write_set(draw_set(3, 32, 0, 0.4, (0.0,)), tmp_path / "nut")
    with pytest.raises(TooFewImagesError, match="category 'nut' has 3 images; halves need 4 or more"):
        task.run(settings(tmp_path), str(tmp_path / "out"), subsets=2)


def test_the_command_writes_a_table(root, tmp_path):
    flags = [f"--config.backbone.{name}={getattr(BACKBONE, name)}" for name in ("name", "weights", "image_size")]
    ended = codegraph(
        "sweep", root, "--config=mvtec", *flags, "--vary", "scoring.score=standard,nearest", "--categories=nut",
        "--subsets", 2, f"--out={tmp_path}",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "6 cells" in ended.stdout and (tmp_path / "table.tex").is_file()
    refused = codegraph("detect", root, "--config=mvtec", "--subsets=2", f"--out={tmp_path / 'no'}")
    assert refused.returncode == 2
    assert "--subsets: no such flag" in refused.stderr
    assert "--subsets 5" in codegraph("sweep", "--help").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/photos", "--config=mvtec", "--seeds=1"], "--seeds: detection has no seed; give --subsets=5"),
        (["--config=oecl_demo", "--subsets=2"], "--subsets: a training run has seeds; give --seeds=0,1,2"),
    ],
)
def test_flags_of_the_other_sweep_are_refused(words, message, tmp_path):
    refused = codegraph("sweep", *words, f"--out={tmp_path}")
    assert refused.returncode == 2 and message in refused.stderr and len(refused.stderr.splitlines()) == 1
