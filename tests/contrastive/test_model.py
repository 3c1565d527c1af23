"""The class OECL: the same training as the task, from arrays and files; saved and loaded."""

import csv
import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import WorkdirError
from contrastive_jax import OECL
from contrastive_jax.data import patterns
from contrastive_jax.data.patterns import draw_patterns
from contrastive_jax.data.protocols import ProtocolError
from contrastive_jax.objectives import SCORES
from contrastive_jax.tasks import oecl
from contrastive_jax.training.checkpoints import CheckpointError
from tests.support.examples import example
from tests.support.training import small_training

CONFIG = small_training("oecl", batch_size=16, epochs=2, learning_rate=0.05)
SIZE = CONFIG.data.stored_size
pytestmark = pytest.mark.usefixtures("quick_training")


@pytest.fixture(scope="module")
def images():
    """Normal images, outliers, and others."""
    train, other = draw_patterns("train", SIZE), draw_patterns("oe", SIZE)
    disc = train.class_names.index("disc")
    return train.images[train.labels == disc][:40], other.images[:48], train.images[train.labels != disc][:12]


@pytest.fixture(scope="module")
def fitted(images, quick_training):
    return OECL(CONFIG).fit(images[0], images[1])


def test_the_class_trains_like_the_task(images, fitted, tmp_path):
    normal, outliers, others = images
    np.savez(
        tmp_path / "set.npz",
        x_train=normal,
        y_train=np.zeros(len(normal), int),
        x_test=np.concatenate([normal[:4], others[:4]]),
        y_test=np.repeat([0, 1], 4),
    )
    np.save(tmp_path / "oe.npy", outliers)
    data = dataclasses.replace(CONFIG.data, train=str(tmp_path / "set.npz"), target="0")
    exposure = dataclasses.replace(CONFIG.oe, source=str(tmp_path / "oe.npy"), split="")
    oecl.run(dataclasses.replace(CONFIG, data=data, oe=exposure), str(tmp_path / "run"))
    loaded = OECL.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, loaded.state.params, fitted.state.params)
    with (tmp_path / "run" / "scores.csv").open() as file:
        written = np.array([[float(row[name]) for name in SCORES] for row in csv.DictReader(file)])
    found = fitted.scores(np.concatenate([normal[:4], others[:4]]))
    np.testing.assert_allclose(np.stack([found[name] for name in SCORES], axis=1), written, rtol=1e-6)


def test_a_saved_model_scores_as_before(fitted, images, tmp_path):
    fitted.save(tmp_path / "kept")
    loaded = OECL.load(tmp_path / "kept")
    assert loaded.config == fitted.config
    np.testing.assert_array_equal(loaded.score(images[2]), fitted.score(images[2]))
    with pytest.raises(WorkdirError, match="holds a network already"):
        fitted.save(tmp_path / "kept")


def test_files_and_arrays_of_any_size_score_alike(fitted, images, tmp_path):
    image = Image.fromarray(images[2][0]).resize((3 * SIZE, 2 * SIZE), Image.Resampling.NEAREST)
    image.save(tmp_path / "one.png")
    grey = np.asarray(image.convert("L"))
    found = fitted.score([tmp_path / "one.png", np.asarray(image), grey, np.stack([grey] * 3, axis=-1)], views=1)
    assert found.shape == (4,)
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_views_are_counted(fitted, images):
    assert not np.array_equal(fitted.score(images[2], views=0), fitted.score(images[2], views=2))
    np.testing.assert_array_equal(fitted.score(images[2], views=0), fitted.scores(images[2], views=0)["clean"])


def test_a_workdir_keeps_the_run_and_refuses_another(images, tmp_path, capsys):
    normal, outliers, _ = images
    first = OECL(CONFIG).fit(normal, outliers, tmp_path)
    assert (tmp_path / "metrics.jsonl").exists()
    assert capsys.readouterr().out == "", "no output by default"
    again = OECL(CONFIG).fit(normal, outliers, tmp_path, progress=True)
    assert "resuming after epoch 2 of 2" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, first.state.params, again.state.params)
    with pytest.raises(WorkdirError):
        OECL(CONFIG).fit(normal[::-1], outliers, tmp_path)


def test_the_example_on_arrays_runs(capsys, monkeypatch):
    monkeypatch.setattr(patterns, "IMAGES_PER_CLASS", {"train": 64, "test": 4, "oe": 16})
    metrics = example("oecl_arrays", EPOCHS=1, WIDTH=2).main()
    assert set(metrics) == {"auroc", "aupr_in", "aupr_out", "fpr95"}
    out = capsys.readouterr().out
    assert "epoch 1/1" in out and "the same after loading: True" in out


def test_fields_find_their_groups():
    config = OECL(epochs=3, width=4, image_size=48, alpha=0.1, seed=7, objective="simclr", batch_size=8).config
    assert (config.train.epochs, config.model.width, config.oe.alpha, config.seed) == (3, 4, 0.1, 7)
    assert (config.data.image_size, config.data.stored_size) == (48, 48)
    assert (config.train.batch_size, config.evaluation.batch_size) == (8, 256)
    dotted = OECL(**{"evaluation.batch_size": 8, "oe.classes": ("1",), "train": "patterns"}).config
    assert (dotted.train.batch_size, dotted.evaluation.batch_size) == (256, 8)
    assert (dotted.data.classes, dotted.oe.classes, dotted.data.train) == ((), ("1",), "patterns")
    with pytest.raises(ConfigError, match="there is no field 'epoch'; did you mean 'epochs'"):
        OECL(epoch=3)
    for path in ("train.epoch", "oe"):
        with pytest.raises(ConfigError, match=f"there is no field '{path}'"):
            OECL(**{path: 3})
    with pytest.raises(ConfigError, match=r"'classes' is in several groups; write .*'data\.classes'.*'oe\.classes'"):
        OECL(classes=("1",))
    with pytest.raises(ConfigError, match=r"train\.objective"):
        OECL(objective="oecll")


def test_invalid_calls_are_refused(images, fitted, tmp_path):
    normal, outliers, _ = images
    with pytest.raises(ProtocolError, match="the objective oecl needs outliers"):
        OECL(CONFIG).fit(normal)
    with pytest.raises(ProtocolError, match="the objective simclr takes no outliers"):
        OECL(CONFIG, objective="simclr").fit(normal, outliers)
    with pytest.raises(ProtocolError, match="batch_size 16 is more than 5 images"):
        OECL(CONFIG).fit(normal[:5], outliers)
    with pytest.raises(ProtocolError, match="every OE image is also a normal"):
        OECL(CONFIG).fit(normal, normal[:20])
    with pytest.raises(ProtocolError, match="nothing has been fitted"):
        OECL(CONFIG).score(normal)
    with pytest.raises(ProtocolError, match="nothing has been fitted"):
        OECL(CONFIG).save(tmp_path)
    with pytest.raises(UserError, match=r"images\[0\]: float64 values from 200 to 200; give floats from 0 to 1"):
        fitted.score(np.full((2, 8, 8, 3), 200.0))
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        OECL.load(tmp_path)
