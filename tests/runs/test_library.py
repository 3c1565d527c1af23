"""The library, called as by users, and the example scripts."""

import numpy as np
import pytest
from PIL import Image

import codegraph_jax
from codegraph_jax import CoDeGraph, Config
from codegraph_jax.config import RecurringConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import TooFewImagesError
from tests.support import ROOT
from tests.support.examples import EXAMPLES, example
from tests.support.networks import random_backbone

NETWORK = ["--backbone", "dinov2-small", "--weights", "random", "--size", "56"]
SMALL = {"BACKBONE": "dinov2-small", "WEIGHTS": "random", "SIZE": 56}


@pytest.fixture(scope="module")
def images():
    return list(draw_set(8, 56, 1, 0.2, (0.3,)).images)


@pytest.fixture(scope="module")
def detector():
    return CoDeGraph(backbone="dinov2-small", weights="random", image_size=56, blocks=(1, 3))


@pytest.fixture(scope="module")
def result(detector, images):
    return detector.detect(images)


def test_fields_have_the_documented_shapes(result):
    assert result.kept.tolist() == list(range(8))
    assert result.unreadable == []
    assert result.patch_scores.shape == (8, 4, 4)
    assert result.scores_rescored.shape == result.scores.shape == result.ranks.shape == (8,)
    assert result.flagged.shape == result.p_values.shape == (8,)
    assert result.recurring.defect_patches.shape == (8, 4, 4)
    assert result.maps().shape == (8, 56, 56)
    assert result.maps([2, 5], 30).shape == (2, 30, 30)
    np.testing.assert_allclose(result.maps().max(axis=(1, 2)), result.scores, atol=1e-6)
    assert sorted(result.ranks) == list(range(1, 9))
    assert "not trained" in result.weights_name
    assert result.bank is None
    assert (result.added_count, result.from_cache_count) == (0, 0)


def test_paths_arrays_and_pillow_images_give_the_same(detector, images, result, tmp_path):
    sources = []
    for i, image in enumerate(images):
        opened = Image.fromarray(image)
        opened.save(tmp_path / f"{i}.png")
        sources.append([str(tmp_path / f"{i}.png"), tmp_path / f"{i}.png", opened, image][i % 4])
    np.testing.assert_array_equal(detector.detect(sources).patch_scores, result.patch_scores)


def test_grey_arrays_are_accepted(detector):
    grey = [np.full((40, 60), 30 * i, np.uint8) for i in range(3)]
    assert detector.detect(grey).patch_scores.shape == (3, 4, 4)


def test_a_config_is_equivalent_to_the_shorthand(images, result):
    np.testing.assert_array_equal(
        CoDeGraph(Config(backbone=random_backbone())).detect(images).scores_rescored, result.scores_rescored
    )


def test_errors_of_invalid_calls_state_the_reason(detector, images):
    with pytest.raises(TooFewImagesError, match="two are needed"):
        detector.detect(images[:1])
    with pytest.raises(ConfigError, match="config.backbone"):
        CoDeGraph(backbone="dinov2-small", weights="random", image_sise=56)
    with pytest.raises(ConfigError, match="nearest: 42 or 56"):
        CoDeGraph(backbone="dinov2-small", weights="random", image_size=50)


def test_two_images_are_enough(images):
    config = Config(recurring=RecurringConfig())
    pair = CoDeGraph(config, backbone="dinov2-small", weights="random", image_size=56, blocks=(1, 3)).detect(images[:2])
    assert np.isfinite(pair.patch_scores).all()


def test_names_of_the_package_exist():
    assert all(hasattr(codegraph_jax, name) for name in codegraph_jax.__all__)


def test_the_example_own_folder_runs(images, tmp_path, capsys):
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    example("own_folder").main([str(tmp_path), *NETWORK])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:8]] == [str(i) for i in range(1, 9)]


def test_the_example_own_set_runs(capsys):
    found = example("own_set", **SMALL, COUNT=10).main()
    assert len(found) == 3 and len(set(found)) == 1, "the same photos, the same scores"
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["folder", "tensors", "records"]


def test_the_example_inspect_bank_runs(capsys):
    example("inspect_bank", **SMALL, COUNT=14).main()
    out = capsys.readouterr().out
    assert "parts.safetensors" in out
    assert out.count(" p ") == 6


@pytest.mark.parametrize("name", ["flax_backbone", "numpy_backbone"])
def test_the_examples_of_own_backbones_run(name, capsys):
    metrics = example(name, SIZE=64, COUNT=10).main()
    assert capsys.readouterr().out.startswith("weights ")
    # better than chance on drawn parts, with random weights
    assert metrics["pixel_auroc"] > 0.6


def test_the_example_added_images_runs(optimised, capsys):
    example("added_images", **SMALL, COUNT=10).main()
    out = capsys.readouterr().out
    assert "6 of 10 images came from the cache" in out and "are the same: True" in out
    assert out.count("added ") == 4


def test_the_example_own_score_runs(capsys):
    example("own_score", **SMALL, COUNT=8).main()
    said = capsys.readouterr().out
    assert "standard   image AUROC" in said and "median     image AUROC" in said and "95% interval" in said


def test_every_example_is_tested():
    files = ("runs/test_library.py", "test_extras.py", "contrastive/test_model.py")
    text = "".join((ROOT / "tests" / file).read_text() for file in files)
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.stem}"' in text or f'"{path.name}"' in text, path.name
