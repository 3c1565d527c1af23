"""Added images and reference banks score new images with the references of a set."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BankConfig, RecurringConfig
from codegraph_jax.consistency.groups import Group
from codegraph_jax.consistency.pattern_patches import PatternTest
from codegraph_jax.core import arrays
from codegraph_jax.core.tensors import read_tensors, write_tensors
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.scoring.maps import anomaly_maps
from codegraph_jax.similarity.host_tables import mean_over_layers, table_scores
from codegraph_jax.similarity.references import neighbour_count
from tests.support.networks import random_config
from tests.support.planted import plant_group

SET_SIZE, NEW_COUNT = 14, 5
SAME = 2e-5
"""Two programs that compute one number round it differently."""


@pytest.fixture(scope="module")
def images():
    return list(draw_set(SET_SIZE + NEW_COUNT, 56, 3, 0.2, (0.3,)).images)


@pytest.fixture(scope="module")
def detector():
    return CoDeGraph(random_config())


@pytest.fixture(scope="module")
def saved(detector, images, tmp_path_factory):
    """A run whose bank has all images, and the bank's file in float32."""
    path = tmp_path_factory.mktemp("bank") / "parts.safetensors"
    result = detector.detect(
        images[:SET_SIZE], added=images[SET_SIZE:], bank=BankConfig(kind="exact", photo_count=SET_SIZE)
    )
    result.bank.save(str(path), "float32")
    return result, path


@pytest.fixture
def recurring(monkeypatch):
    """A set in which the first four images share a defect in their first patches."""
    plant_group(monkeypatch, Group((0, 1, 2, 3), 5.0, 0.01, (), "defect"), np.s_[0, :2])


def test_added_images_change_nothing_of_the_set(detector, images, saved):
    alone = detector.detect(images[:SET_SIZE])
    with_added, _ = saved
    assert with_added.added_count == NEW_COUNT
    for name in ("patch_scores", "scores", "scores_rescored"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(with_added, name)[:SET_SIZE])
    np.testing.assert_array_equal(alone.p_values, with_added.p_values[:SET_SIZE])
    np.testing.assert_array_equal(alone.flagged, with_added.flagged[:SET_SIZE])
    assert alone.calibration.threshold == with_added.calibration.threshold
    assert len(with_added.flagged) == len(with_added.scores_rescored) == SET_SIZE + NEW_COUNT
    np.testing.assert_array_equal(
        with_added.flagged[SET_SIZE:], with_added.scores[SET_SIZE:] >= alone.calibration.threshold
    )


def test_added_images_score_as_in_a_run_whose_references_are_the_set(images):
    detector = CoDeGraph(random_config(recurring=RecurringConfig(defects="off")))
    everything = detector.compare(images)
    k = neighbour_count(SET_SIZE, detector.config.scoring.fraction)
    fresh = mean_over_layers([table_scores(table[:, :, :SET_SIZE], k) for table in everything.tables])
    result = detector.detect(images[:SET_SIZE], added=images[SET_SIZE:])
    np.testing.assert_allclose(result.patch_scores.reshape(SET_SIZE + NEW_COUNT, -1), fresh, atol=SAME)


def test_an_added_copy_scores_as_its_original(images):
    # photos of one part are no references for each other
    detector = CoDeGraph(random_config())
    result = detector.detect(
        images[:SET_SIZE], added=[images[4], images[9]], bank=BankConfig(kind="exact", photo_count=SET_SIZE)
    )
    np.testing.assert_allclose(result.scores[SET_SIZE:], result.scores[[4, 9]], atol=SAME)
    np.testing.assert_allclose(result.bank.anomaly_scores([images[4], images[9]]), result.scores[[4, 9]], atol=SAME)


def test_an_unreadable_image_of_the_set_is_not_mixed_up_with_an_added_one(detector, images):
    result = detector.detect([*images[:6], "absent.png"], added=["absent too.png", *images[6:8]])
    assert result.added_count == 2
    assert result.kept.tolist() == [0, 1, 2, 3, 4, 5, 8, 9]
    assert [i for i, _ in result.unreadable] == [6, 7]


def test_bank_scores_are_those_of_added_images(images, saved):
    result, path = saved
    bank = ReferenceBank.load(str(path))
    inspection = bank.inspect(images[SET_SIZE:])
    np.testing.assert_allclose(inspection.patch_scores, result.patch_scores[SET_SIZE:], atol=SAME)
    np.testing.assert_allclose(inspection.scores, result.scores[SET_SIZE:], atol=SAME)
    np.testing.assert_allclose(inspection.p_values, result.p_values[SET_SIZE:], atol=1e-3)
    assert bank.calibration.threshold == pytest.approx(result.calibration.threshold, abs=1e-4)
    np.testing.assert_array_equal(bank.anomaly_scores(images[SET_SIZE:]), inspection.scores)
    maps = inspection.maps(size=40)
    assert maps.shape == (NEW_COUNT, 40, 40)
    np.testing.assert_allclose(maps, np.asarray(anomaly_maps(inspection.patch_scores, 40)), atol=1e-6)


def test_recurring_defects_are_recognised_in_new_images(detector, images, saved, recurring):
    added = [images[0], *images[SET_SIZE:]]
    run = detector.detect(images[:SET_SIZE], added=added, bank=BankConfig(kind="exact", photo_count=SET_SIZE))
    plain, _ = saved
    assert (run.patch_scores[SET_SIZE + 1 :] != plain.patch_scores[SET_SIZE:]).any(), (
        "the community must change the scores"
    )
    assert run.recurring.defect_patches.shape == run.patch_scores.shape
    np.testing.assert_allclose(run.bank.inspect(added).patch_scores, run.patch_scores[SET_SIZE:], atol=SAME)


def test_a_bank_with_a_community_survives_its_file(detector, images, recurring, tmp_path):
    bank = detector.detect(images[:SET_SIZE], bank=BankConfig(kind="exact", photo_count=SET_SIZE)).bank
    assert bank.references.tests
    assert bank.references.removed.sum() == 8
    bank.save(str(tmp_path / "b.safetensors"), "float32")
    again = ReferenceBank.load(str(tmp_path / "b.safetensors"), backbone=bank.backbone)
    np.testing.assert_array_equal(
        again.inspect(images[SET_SIZE:]).patch_scores, bank.inspect(images[SET_SIZE:]).patch_scores
    )


def test_banks_that_score_differently_have_different_digests(saved):
    bank, references = saved[0].bank, saved[0].bank.references
    test = PatternTest([0, 1, 2, 3, 4], 1.5, 0.5)
    changes = (
        {},
        {"tests": [test]},
        {"tests": [dataclasses.replace(test, min_ratio=1.6)]},
        {"fraction": 0.5},
        {"removed": ~references.removed},
        {"addition_numbers": references.addition_numbers + 1},
        {"options": references.options._replace(radius=2)},
        {"layers": [2 * layer for layer in references.layers]},
    )
    digests = [
        dataclasses.replace(bank, references=dataclasses.replace(references, **change)).digest for change in changes
    ]
    assert digests[0] == bank.digest and len(set(digests)) == len(changes)
    stricter = dataclasses.replace(bank.calibration, threshold=bank.calibration.threshold + 1)
    assert dataclasses.replace(bank, calibration=stricter).digest not in digests


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_types_move_scores_little(images, saved, tmp_path, dtype):
    result, path = saved
    result.bank.save(str(tmp_path / "small.safetensors"), dtype)
    small = ReferenceBank.load(str(tmp_path / "small.safetensors"), backbone=result.bank.backbone)
    bound = {"float16": 1e-3, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(small.anomaly_scores(images[SET_SIZE:]), result.scores[SET_SIZE:], atol=bound)
    assert (tmp_path / "small.safetensors").stat().st_size < 0.6 * path.stat().st_size


def test_fewer_references_are_chosen_by_content_and_calibrated_by_themselves(detector, images):
    bank = detector.detect(images[:SET_SIZE], bank=BankConfig(kind="exact", photo_count=6)).bank
    assert bank.references.removed.shape == (6, 16)
    assert len(bank.calibration_set.scores) == SET_SIZE
    held = dataclasses.replace(detector.config, recurring=RecurringConfig(defects="off"))
    comparison = CoDeGraph(held).compare(images[:SET_SIZE])
    keys = comparison.features.keys
    chosen = sorted(sorted(range(SET_SIZE), key=lambda i: keys[i])[:6])
    table = [t[:, :, chosen] for t in comparison.tables]
    want = mean_over_layers([table_scores(t, neighbour_count(6, 0.3)) for t in table]).reshape(SET_SIZE, 4, 4)
    raw = np.asarray(anomaly_maps(want, 56)).max(axis=(1, 2))
    np.testing.assert_allclose(bank.calibration_set.scores, raw, atol=1e-5)


def test_scores_stand_beside_their_images(saved, images):
    result, _ = saved
    with pytest.raises(UnreadableImageError):
        result.bank.anomaly_scores([images[0], "absent.png"])
    inspection = result.bank.inspect([images[0], "absent.png", images[1]])
    assert inspection.kept.tolist() == [0, 2]
    assert [i for i, _ in inspection.unreadable] == [1]
    assert result.bank.inspect([]).scores.shape == (0,)


def test_other_weights_are_refused(saved, tmp_path):
    _, path = saved
    tensors, about = read_tensors(path)
    about["weights_name"] = "sha256 " + "0" * 64
    write_tensors(tmp_path / "other.safetensors", tensors, about)
    with pytest.raises(BankError, match="made with weights 'sha256 000"):
        ReferenceBank.load(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    "field", ["backbone", "tests", "calibration", "frame", "weights_name", "format", "heatmap_range"]
)
def test_a_bank_without_a_field_is_refused(saved, tmp_path, field):
    _, path = saved
    tensors, about = read_tensors(path)
    del about[field]
    write_tensors(tmp_path / "less.safetensors", tensors, about)
    with pytest.raises(BankError, match="not a reference bank"):
        ReferenceBank.load(str(tmp_path / "less.safetensors"))


@pytest.mark.parametrize(
    "field,value",
    [
        ("frame", []),
        ("frame", {"fit": "squeeze", "grid": [2, 2], "patch_size": 14, "longest_patches": 0, "tile": 0, "overlap": 0}),
        (
            "frame",
            {"fit": "squeeze", "grid": [4, 4], "patch_size": 1400, "longest_patches": 0, "tile": 0, "overlap": 0},
        ),
        ("frame", {"fit": "stretch", "grid": [4, 4], "patch_size": 14, "longest_patches": 0, "tile": 0, "overlap": 0}),
        ("frame", {"fit": "tile", "grid": [4, 4], "patch_size": 14, "longest_patches": 4, "tile": 3, "overlap": 3}),
        ("radius", -1),
        ("degrees", []),
        ("degrees", [2]),
        ("degrees", [99]),
        ("precision", "float8"),
        ("tests", [{"non_member_columns": [99], "min_ratio": 1.0, "min_score": 1.0}]),
    ],
)
def test_a_bank_whose_settings_do_not_fit_is_refused(saved, tmp_path, field, value):
    _, path = saved
    tensors, about = read_tensors(path)
    about[field] = value
    write_tensors(tmp_path / "other.safetensors", tensors, about)
    with pytest.raises(BankError, match="not a reference bank"):
        ReferenceBank.load(str(tmp_path / "other.safetensors"))


def test_files_that_are_not_banks_are_refused(saved, tmp_path):
    _, path = saved
    with pytest.raises(BankError, match="does not exist"):
        ReferenceBank.load(str(tmp_path / "absent.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BankError, match="not a reference bank"):
        ReferenceBank.load(str(tmp_path / "cut.safetensors"))
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "plain.safetensors")
    with pytest.raises(BankError, match="not a reference bank"):
        ReferenceBank.load(str(tmp_path / "plain.safetensors"))
    tensors, about = read_tensors(path)
    write_tensors(tmp_path / "old.safetensors", tensors, about | {"format": 5})
    with pytest.raises(BankError, match="this version reads format 19 only.*; make one with"):
        ReferenceBank.load(str(tmp_path / "old.safetensors"))


def test_a_changed_bank_is_refused(saved, tmp_path):
    _, path = saved
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(bytes(content))
    with pytest.raises(BankError, match="its digest does not match"):
        ReferenceBank.load(str(tmp_path / "changed.safetensors"))


def test_the_file_names_no_path(saved):
    _, path = saved
    content = path.read_bytes()
    assert str(path.parent).encode() not in content


def test_a_bank_does_not_depend_on_the_number_of_images_copied_at_once(monkeypatch, recurring, detector, images):
    want = detector.detect(images[:SET_SIZE], added=images[SET_SIZE:], bank=BankConfig(kind="exact", photo_count=8))
    assert want.bank.references.tests
    monkeypatch.setattr(arrays, "COPIED_BYTES", 1)
    got = detector.detect(images[:SET_SIZE], added=images[SET_SIZE:], bank=BankConfig(kind="exact", photo_count=8))
    np.testing.assert_array_equal(got.patch_scores, want.patch_scores)
    assert got.bank.calibration.threshold == want.bank.calibration.threshold
    for mine, theirs in zip(got.bank.references.tests, want.bank.references.tests):
        assert (mine.min_ratio, mine.min_score) == (theirs.min_ratio, theirs.min_score)


def test_a_bank_of_rounded_tokens_scores_as_added_images_are_scored(images, tmp_path):
    rounded = CoDeGraph(random_config(precision="bfloat16"))
    result = rounded.detect(
        images[:SET_SIZE], added=images[SET_SIZE:], bank=BankConfig(kind="exact", photo_count=SET_SIZE)
    )
    result.bank.save(str(tmp_path / "bank.safetensors"), "bfloat16")
    bank = ReferenceBank.load(str(tmp_path / "bank.safetensors"), backbone=rounded.backbone)
    assert {str(layer.dtype) for layer in bank.references.layers} == {"bfloat16"}
    got = bank.inspect(images[SET_SIZE:])
    np.testing.assert_allclose(got.patch_scores, result.patch_scores[SET_SIZE:], atol=SAME)
