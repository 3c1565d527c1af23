"""The result of a detection: saved and loaded, as a table, and as figures."""

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from codegraph_jax import CoDeGraph, DetectionResult
from codegraph_jax.config import Config
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.tensors import read_tensors, write_tensors
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.samples import LABELS, Sample
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.result import RESULT_FILE, SavedResultError
from tests.support.networks import random_backbone, shallow_backbone

COUNT = 14


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Drawn parts as files with labels; the last one is a copy of the first."""
    root, drawn = tmp_path_factory.mktemp("parts"), draw_set(COUNT, 56, 1, 0.2, (0.3,))
    for i, image in enumerate(drawn.images):
        Image.fromarray(image).save(root / f"{i:02d}.png")
    listed = [
        Sample.of(
            root / f"{i:02d}.png",
            label=int(drawn.labels[i]),
            mask=np.asarray(drawn.masks[i]),
            photo_type=f"kind {i % 2}",
        )
        for i in range(COUNT)
    ]
    return [*listed, replace(listed[0], name="copy.png")]


@pytest.fixture(scope="module")
def result(samples):
    with shallow_backbone():
        return CoDeGraph(Config(backbone=random_backbone(image_size=28, blocks=(1,)))).detect(samples)


def assert_same_file(one, other, directory):
    one.write_file(directory / "one.safetensors")
    other.write_file(directory / "other.safetensors")
    (arrays, about), (others, others_about) = map(read_tensors, sorted(directory.glob("*.safetensors")))
    assert {name: array.dtype for name, array in arrays.items()} == {
        name: array.dtype for name, array in others.items()
    }
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    assert about == others_about


def test_a_loaded_result_is_the_same(result, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        result.save(tmp_path / "new" / "place")
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'new' / 'place'}: not saved: masks without a file"
    ]
    loaded = DetectionResult.load(tmp_path / "new" / "place")
    assert_same_file(loaded, result, tmp_path)
    np.testing.assert_array_equal(loaded.maps([0, 3]), result.maps([0, 3]))
    assert loaded.verdicts == result.verdicts and loaded.samples[3].label == result.samples[3].label
    assert loaded.recurring.groups == result.recurring.groups
    loaded.save(tmp_path / "again")
    assert_same_file(DetectionResult.load(tmp_path / "again"), result, tmp_path)


def test_any_program_reads_a_saved_result(result, tmp_path):
    result.save(tmp_path)
    np.testing.assert_array_equal(load_file(tmp_path / RESULT_FILE)["scores"], result.scores)


def test_pixels_and_banks_are_not_saved_with_a_note_in_the_log(result, tmp_path, caplog):
    pixels = np.zeros((28, 28, 3), np.uint8)
    held = replace(result, samples=tuple(Sample.of(pixels, f"{i}") for i in range(COUNT + 1)), bank=object())
    held.save(tmp_path)
    assert "the reference bank" in caplog.text and "the pixels of images without a file" in caplog.text
    loaded = DetectionResult.load(tmp_path)
    assert loaded.bank is None and not loaded.samples[0].is_file
    panels = loaded.plot(0).axes
    assert len(panels[0].images) == 0 and len(panels[1].images) == 1, "only the map is known"
    with pytest.raises(ValueError, match="not saved"):
        loaded.samples[0].read()


def damage_format(path):
    arrays, about = read_tensors(path)
    write_tensors(path, arrays, about | {"format": "codegraph-result-9"})


def damage_values(path):
    arrays, about = read_tensors(path)
    write_tensors(path, arrays, {name: value for name, value in about.items() if name != "added_count"})


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"PK\3\4 no archive"), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "its digest does not match"),
        (damage_values, "missing: added_count"),
        (damage_format, "codegraph-result-9"),
    ],
)
def test_damaged_files_are_refused_by_name(result, tmp_path, damage, message):
    result.save(tmp_path)
    damage(tmp_path / RESULT_FILE)
    with pytest.raises(SavedResultError, match=message):
        DetectionResult.load(tmp_path)


def test_rows_and_frame_hold_the_columns_of_the_table(result, samples):
    frame = result.to_frame()
    assert list(frame["path"]) == [sample.path for sample in samples]
    assert frame.loc[3, "label"] == LABELS[samples[3].label] and frame.loc[3, "photo_type"] == "kind 1"
    np.testing.assert_array_equal(frame["score"], result.scores)
    np.testing.assert_array_equal(frame["flagged"], result.flagged)
    assert sorted(frame["rank"]) == list(range(1, COUNT + 2))
    assert [int(row["given"]) for row in result.rows()] == list(range(COUNT + 1))
    unnamed = replace(result, samples=())
    assert unnamed.rows()[2]["path"] == "image 2" and unnamed.to_frame()["label"].isna().all()


def test_without_pandas_the_error_names_the_command(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="to_frame needs the package pandas.* install pandas"):
        result.to_frame()


def test_figures_show_the_photo_and_its_map(result, samples):
    figure = result.plot(4)
    photo, drawn = (axes.images[0] for axes in figure.axes)
    np.testing.assert_array_equal(photo.get_array(), np.asarray(Image.open(samples[4].path)))
    assert drawn.get_array().shape == result.map_size
    assert drawn.get_extent() == photo.get_extent(), "the map covers the photo"
    assert figure.axes[0].get_title().startswith("04.png")
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_the_worst_photos_come_first(result):
    titles = [axes.get_title() for axes in result.plot_worst(4).axes]
    worst = np.argsort(result.ranks)[:4]
    assert [title.split("\n")[0] for title in titles] == [result.samples[i].path.rpartition("/")[2] for i in worst]
    with pytest.raises(ValueError, match="count"):
        result.plot_worst(0)
    with pytest.raises(IndexError, match="0 to 14"):
        result.plot(15)


def test_a_photo_that_is_gone_is_named(result):
    gone = replace(result, samples=tuple(replace(s, path=f"{s.path}.gone") for s in result.samples))
    with pytest.raises(UnreadableImageError, match=r"00\.png\.gone"):
        gone.plot(0)


def test_labels_and_masks_of_samples_measure_the_result(result, samples):
    metrics = evaluate(result)
    assert metrics == evaluate(replace(result, samples=tuple(samples)))
    assert metrics["image_auroc"] is not None and metrics["pixel_auroc"] is not None
