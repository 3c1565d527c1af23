"""Files of 12 bits in the trainer: one range for training, test and images scored later."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from contrastive_jax import OECL, trainer
from contrastive_jax.data.sources import read_run_data
from contrastive_jax.tasks.oecl_score import _read
from tests.support.training import small_training

CONFIG = small_training("simclr", batch_size=8, epochs=1)
SIZE = CONFIG.data.stored_size


@pytest.fixture
def root(tmp_path):
    """Normal parts with 12 bits, and darker anomalous ones."""
    draw = np.random.default_rng(0)
    for split, kind, top in (("train", "a", 4096), ("test", "a", 4096), ("test", "b", 400)):
        for i in range(9):
            path = tmp_path / split / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, top, (SIZE, SIZE)).astype(np.uint16)).save(path)
    return tmp_path


def test_training_and_test_images_share_one_range(root, monkeypatch, tmp_path):
    data = dataclasses.replace(
        CONFIG.data, train=str(root), train_split="train", test_split="test", target="a", range=()
    )
    config = dataclasses.replace(CONFIG, data=data)
    found = read_run_data(config)
    assert found.value_range.black_and_white == (0, 4095)
    assert found.normal.max() > 250, "read as sixteen bits, images are nearly black"
    assert found.test.images[~found.test.is_normal].max() < 40, "dark images are not brightened by a range of their own"

    kept = []
    monkeypatch.setattr(trainer, "_run_in", lambda home, config, data: kept.append(config) or {})
    trainer.train(config, tmp_path / "run")
    assert kept[0].data.range == (0, 4095) and not kept[0].data.no_data, "the checkpoint stores the range"
    _, scored = _read([("x", str(root / "test" / "b" / "0.png"))], kept[0].data)
    assert scored.max() < 40


def test_a_model_keeps_the_range_that_it_was_fitted_with(root, monkeypatch):
    given = []
    monkeypatch.setattr(OECL, "_train", lambda model, data, home, progress: given.append(data.normal))
    model = OECL(CONFIG).fit(sorted((root / "train" / "a").iterdir()))
    assert model.config.data.range == (0, 4095) and given[0].max() > 250
    assert model._stored([root / "test" / "b" / "0.png"]).max() < 40
