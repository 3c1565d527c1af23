"""A whole run on drawn patterns: its files, resuming, refusals, and scoring a folder with the trained network."""

import csv
import dataclasses
import functools
import json
import logging
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import WorkdirError, locked
from contrastive_jax import trainer
from contrastive_jax.config import ScoreConfig
from contrastive_jax.data.catalog import load_image_set
from contrastive_jax.data.image_set import square
from contrastive_jax.data.patterns import draw_patterns
from contrastive_jax.data.protocols import ProtocolError
from contrastive_jax.network.resnet import build_network
from contrastive_jax.objectives import SCORES
from contrastive_jax.report.metrics_log import MetricsLog, read_log
from contrastive_jax.tasks import oecl, oecl_score
from contrastive_jax.training.checkpoints import CheckpointError, Checkpoints
from contrastive_jax.training.mesh import BATCH_AXIS
from contrastive_jax.training.state import build_optimizer, initial_state
from tests.support.training import mesh_of, small_training

pytestmark = pytest.mark.usefixtures("quick_training")

CONFIG = small_training("oecl", batch_size=100, epochs=2, learning_rate=0.05)
"""A batch of 100 over eight devices is padded."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, quick_training):
    """The workdir of a finished run."""
    home = tmp_path_factory.mktemp("run")
    oecl.run(CONFIG, str(home))
    return home


@functools.cache
def fresh_state(config):
    network = build_network(config.model, config.train.objective, BATCH_AXIS)
    state = initial_state(network, build_optimizer(config.train, 10), config.data.image_size, config.seed)
    return jax.device_put(state, NamedSharding(mesh_of(1), PartitionSpec()))


def test_a_run_writes_its_results_scores_log_and_figures(finished):
    results = json.loads((finished / "results.json").read_text())
    assert all(0 <= results["metrics"][name]["auroc"]["value"] <= 1 for name in SCORES)
    assert set(results["by_class"]) <= set(draw_patterns("test", 8).class_names) - {"disc"}
    assert set(results["clean_score_means"]) == {"normal", "oe", "unseen"}
    records = read_log(finished / "metrics.jsonl")
    assert [(r["kind"], r["epoch"], r["step"]) for r in records] == [("train", 1, 3), ("train", 2, 6)]
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["seed"] == 0 and manifest["image_counts"]["normal"] == 384 and manifest["versions"]["jax"]
    with (finished / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 64 and sum(int(row["normal"]) for row in rows) == 32
    for name in ("norms.png", "learning_curve.png"):
        assert Image.open(finished / name).size[0] > 100
    assert not [path.name for path in finished.iterdir() if "partial" in path.name]


def test_a_finished_run_is_not_trained_again(finished):
    before = (finished / "metrics.jsonl").read_text(), (finished / "results.json").read_text()
    oecl.run(CONFIG, str(finished))
    assert (finished / "metrics.jsonl").read_text() == before[0]
    assert (finished / "results.json").read_text() == before[1]


def test_another_run_in_the_same_workdir_is_refused(finished):
    other = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, learning_rate=0.01))
    with pytest.raises(WorkdirError, match=r"config.train.learning_rate was 0.05, is 0.01"):
        trainer.train(other, finished)
    with locked(finished), pytest.raises(WorkdirError, match="another run is using it"):
        trainer.train(CONFIG, finished)


def test_a_workdir_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot be written"):
        trainer.train(CONFIG, tmp_path / "file" / "run")


def test_a_full_disk_is_reported_with_the_remedy(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "write_json", full)
    with pytest.raises(WorkdirError, match="No space left on device.*resumes from its newest checkpoint"):
        trainer.train(CONFIG, tmp_path)


def test_bad_data_leaves_no_workdir(tmp_path):
    unknown = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, target="dodo"))
    with pytest.raises(ProtocolError, match="no class 'dodo'"):
        trainer.train(unknown, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_network_is_refused(finished):
    wider = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, width=3))
    checkpoints = Checkpoints(finished)
    with pytest.raises(CheckpointError, match="none of the checkpoints.*can be read"):
        checkpoints.restore(fresh_state(wider))
    checkpoints.close()


def test_broken_checkpoint_is_skipped(tmp_path, caplog):
    state = fresh_state(CONFIG)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, CONFIG)
    checkpoints.save(state.replace(step=state.step + 7), CONFIG)
    checkpoints.close()
    for path in (tmp_path / "checkpoints" / "7" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checkpoints = Checkpoints(tmp_path)
    with caplog.at_level(logging.WARNING, "contrastive_jax.training.checkpoints"):
        restored = checkpoints.restore(state)
    assert int(restored.step) == 0 and "step 7 cannot be read" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
    checkpoints.close()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    """The message names the step and the last good checkpoint."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(fresh_state(CONFIG).replace(step=np.int32(3)), CONFIG)
    good = {name: np.ones(3, np.float32) for name in ("loss", "normal_norm")}
    trainer._require_finite_steps(good, 1, checkpoints)
    bad = {**good, "loss": np.array([1, np.nan, 1], np.float32)}
    with pytest.raises(
        trainer.TrainingDivergedError, match=r"step 5 \(epoch 2\).*last good checkpoint is step 3.*learning"
    ):
        trainer._require_finite_steps(bad, 2, checkpoints)
    state = fresh_state(CONFIG)
    trainer._require_finite_state(state, 2, checkpoints)
    state = state.replace(params=jax.tree.map(lambda x: x * np.inf, state.params), step=np.int32(6))
    with pytest.raises(trainer.TrainingDivergedError, match="step 6.*parameter"):
        trainer._require_finite_state(state, 2, checkpoints)
    checkpoints.close()


def test_an_epoch_that_is_not_finite_is_not_logged(tmp_path, quick_training, monkeypatch):
    def built(*arguments):
        call, epochs = build_train_call(*arguments), []

        def broken(*given):
            state, values = call(*given)
            epochs.append(1)
            return state, {name: value if len(epochs) < 2 else value * np.nan for name, value in values.items()}

        return broken

    build_train_call = trainer.build_train_call
    monkeypatch.setattr(trainer, "build_train_call", built)
    with pytest.raises(trainer.TrainingDivergedError, match=r"the loss is not finite"):
        oecl.run(CONFIG, str(tmp_path / "run"))
    assert all(
        np.isfinite(record["loss"]) for record in read_log(tmp_path / "run" / "metrics.jsonl") if "loss" in record
    )


def test_images_of_a_folder_are_scored_and_ranked(finished, tmp_path, capsys, caplog):
    images = tmp_path / "images" / 'odd "name", ü'
    images.mkdir(parents=True)
    drawn = draw_patterns("test", 20).images
    for i in range(5):
        Image.fromarray(drawn[i * 64]).save(images / f"{i}.png")
    (images / "broken.png").write_bytes(b"not an image")
    config = ScoreConfig(run=str(finished), images=str(tmp_path / "images"), views=2)
    oecl_score.run(config, str(tmp_path / "out"))
    assert "1 of 6 images cannot be read" in caplog.text
    with (tmp_path / "out" / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [f'odd "name", ü/{i}.png' for i in range(5)]
    assert sorted(int(row["rank"]) for row in rows) == [1, 2, 3, 4, 5]
    lowest = min(rows, key=lambda row: float(row["mean_feature"]))
    assert lowest["rank"] == "1"
    assert capsys.readouterr().out.index(lowest["path"]) > 0

    # an image alone has the same score as among others
    (tmp_path / "one").mkdir()
    (images / "3.png").rename(tmp_path / "one" / "3.png")
    oecl_score.run(dataclasses.replace(config, images=str(tmp_path / "one")), str(tmp_path / "out"))
    with (tmp_path / "out" / "scores.csv").open() as stream:
        alone = next(csv.DictReader(stream))
    assert abs(float(alone["mean_feature"]) / float(rows[3]["mean_feature"]) - 1) < 1e-5


def test_scoring_prepares_images_as_training_did(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(square(image, 16), load_image_set(str(tmp_path), "", 16).images[0])


def test_scoring_without_run_checkpoints_or_images_is_refused(finished, tmp_path):
    with pytest.raises(ConfigError, match="config.run: is empty"):
        oecl_score.run(ScoreConfig(), str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        oecl_score.run(ScoreConfig(run=str(tmp_path), images=str(tmp_path)), str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="no image below"):
        oecl_score.run(ScoreConfig(run=str(finished), images=str(tmp_path)), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_scoring_does_not_change_the_files_of_an_active_run(finished, tmp_path):
    """Half-written steps stay untouched, and a step with a broken description is skipped."""
    run = tmp_path / "run"
    shutil.copytree(finished / "checkpoints", run / "checkpoints")
    newest = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    half = run / "checkpoints" / f"{newest + 3}.orbax-checkpoint-tmp"
    half.mkdir()
    for path in (run / "checkpoints" / str(newest) / "description").rglob("*"):
        if path.is_file():
            path.write_text("{")
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    checkpoints = Checkpoints(run, read_only=True)
    assert checkpoints.settings()["seed"] == 0
    checkpoints.close()
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before


def test_a_run_that_starts_from_scratch_keeps_no_records(tmp_path):
    """Otherwise the untrained network's test, at epoch 0, would be there twice."""
    for _ in range(2):
        log = MetricsLog(tmp_path / "metrics.jsonl", last_epoch=0)
        log.add("test", 0, 0, {"auroc": 0.5})
        log.close()
    assert len(read_log(tmp_path / "metrics.jsonl")) == 1


def test_incomplete_records_of_a_killed_run_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "epoch": 1, "step": 3}\n{"kind": "train", "epoch": 2, "step": 6}\n{"kind": "tr')
    log = MetricsLog(path, last_epoch=1)
    log.add("train", 2, 6, {"loss": 1.5})
    log.close()
    assert [(line["epoch"], line.get("loss")) for line in read_log(path)] == [(1, None), (2, 1.5)]
