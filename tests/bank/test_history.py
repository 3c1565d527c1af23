"""Extended banks: added good parts are references, the oldest are dropped, earlier revisions can be restored."""

import dataclasses

import numpy as np
import pytest

from codegraph_jax.bank import history as module
from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.history import BankRevision, in_use
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.core.tensors import read_tensors, write_tensors
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.synthetic import draw_set
from tests.support.networks import small_bank

pytestmark = pytest.mark.usefixtures("shallow")

SET_SIZE = 14


@pytest.fixture(scope="module", params=["exact", "compact"])
def made(request):
    """A bank of either kind, and further images."""
    settings = (
        {"kind": "exact", "photo_count": 8} if request.param == "exact" else {"kind": "compact", "patch_count": 64}
    )
    images = list(draw_set(SET_SIZE + 10, 56, 3, 0.0, ()).images)
    return small_bank(images[:SET_SIZE], **settings), images[SET_SIZE:]


def variant(image: np.ndarray, seed: int = 0) -> np.ndarray:
    """A drawn part with an imprint, whose place varies a little."""
    changed, shift = image.copy(), int(np.random.default_rng(seed).integers(0, 3))
    changed[10 + shift : 30 + shift, 10:30] = (250, 240, 20)
    return changed


def test_good_parts_that_are_added_lower_the_scores_of_similar_parts(made):
    bank, images = made
    variants = [variant(image, seed) for seed, image in enumerate(images)]
    before = bank.anomaly_scores(variants)
    after = bank.extend(variants[:6])
    np.testing.assert_array_less(after.anomaly_scores(variants[6:]), before[6:])
    # normal parts stay normal
    assert (after.anomaly_scores(images) <= bank.anomaly_scores(images) + 0.05).all()
    assert len(bank.history) == 1 and after.history[-1].last_addition == 6


def test_approved_part_passes_and_keeps_threshold(made):
    bank, images = made
    parts = [variant(image, seed) for seed, image in enumerate(images[:5])]
    assert bank.inspect(parts).flagged.any() and not bank.inspect(images).flagged.all()
    flagged = parts[int(bank.anomaly_scores(parts).argmax())]
    after = bank.extend([flagged])
    assert bank.inspect([flagged]).flagged[0] and not after.inspect([flagged]).flagged[0]
    assert after.calibration.threshold == bank.calibration.threshold
    np.testing.assert_array_less(after.anomaly_scores(images), bank.anomaly_scores(images) + 0.05)


def test_defective_part_and_similar_parts_are_flagged(made):
    bank, images = made
    # a bank that flags nothing by its scores
    bank = dataclasses.replace(bank, calibration=bank.calibration.with_threshold(np.inf, "score"))
    parts = [variant(image, seed) for seed, image in enumerate(images[:5])]
    assert not bank.inspect(parts).flagged.any()
    after = bank.extend([parts[0]], defective=True)
    assert after.inspect(parts[:1]).flagged.all() and not after.inspect(images).flagged.any()
    assert after.history[-1].defective and len(after.active_references.addition_numbers) == len(
        bank.active_references.addition_numbers
    )
    # the latest answer is used
    again = after.extend([parts[0]])
    assert not again.inspect(parts[:1]).flagged.any()
    assert again.back_to(1).inspect(parts[:1]).flagged.all() and not again.back_to(0).known_patterns


def test_an_approved_part_answered_as_defective_is_removed_from_the_references(made, tmp_path):
    bank, images = made
    parts = [variant(image, seed) for seed, image in enumerate(images[:5])]
    wrong = parts[int(bank.anomaly_scores(parts).argmax())]
    assert bank.inspect([wrong]).flagged[0]
    usual = images[int(bank.anomaly_scores(images).argmin())]
    approved = bank.extend([usual]).extend([wrong])
    assert not approved.inspect([wrong]).flagged[0]
    after = approved.extend([wrong], defective=True)
    assert after.inspect([wrong]).flagged[0] and [mark.verdict for mark in after.known_patterns] == ["defect"]
    np.testing.assert_allclose(after.anomaly_scores([wrong]), bank.extend([usual]).anomaly_scores([wrong]), atol=1e-6)
    after.save(str(tmp_path / "bank.safetensors"))
    again = ReferenceBank.load(str(tmp_path / "bank.safetensors"), backbone=bank.backbone)
    assert again.inspect([wrong]).flagged[0] and not again.back_to(2).inspect([wrong]).flagged[0]


def test_oldest_parts_are_dropped_and_the_set_stays(made, monkeypatch):
    monkeypatch.setattr(module, "MAX_PARTS", 2)
    monkeypatch.setattr(module, "KEPT_PARTS", 4)
    bank, images = made
    grown = bank
    for image in images[:5]:
        grown = grown.extend([image])
    served = set(grown.active_references.addition_numbers.tolist())
    assert 0 in served and served <= {0, 4, 5}
    assert (grown.active_references.addition_numbers == 0).sum() == (bank.references.addition_numbers == 0).sum()
    assert set(grown.references.addition_numbers.tolist()) <= {0, 2, 3, 4, 5}
    four = bank.extend(images[:2]).extend(images[2:4])
    np.testing.assert_allclose(grown.back_to(4).anomaly_scores(images), four.anomaly_scores(images), atol=1e-5)
    with pytest.raises(BankError, match="no longer stored"):
        grown.back_to(2)


def test_bank_is_restored_to_an_earlier_revision(made):
    bank, images = made
    twice = bank.extend(images[:2], names=["a", "b"], when="2026-01-01").extend(images[2:4])
    assert [revision.last_addition for revision in twice.history] == [0, 2, 4]
    assert twice.history[1].names == ("a", "b") and twice.history[1].when == "2026-01-01"
    once = twice.back_to(1)
    assert once.history == twice.history[:2]
    np.testing.assert_allclose(once.anomaly_scores(images), bank.extend(images[:2]).anomaly_scores(images), atol=1e-6)
    np.testing.assert_allclose(twice.back_to(0).anomaly_scores(images), bank.anomaly_scores(images), atol=1e-6)
    for revision in (3, -1):
        with pytest.raises(BankError, match="revisions 0 to 2"):
            twice.back_to(revision)


def test_a_grown_bank_survives_its_file(made, tmp_path):
    bank, images = made
    grown = bank.extend(images[:3], names=["x", "y", "z"], when="2026-02-03")
    grown.save(str(tmp_path / "bank.safetensors"), "float32")
    again = ReferenceBank.load(str(tmp_path / "bank.safetensors"), backbone=bank.backbone)
    np.testing.assert_array_equal(again.anomaly_scores(images), grown.anomaly_scores(images))
    assert again.digest == grown.digest != bank.digest
    assert again.history == grown.history and again.calibration.threshold == grown.calibration.threshold
    first, second = (bank.extend(images[3:4]).anomaly_scores(images) for bank in (again, grown))
    np.testing.assert_array_equal(first, second)


def test_parts_count_once_and_unreadable_ones_change_nothing(made):
    bank, images = made
    grown = bank.extend([images[0], images[0], images[1]])
    assert grown.history[-1].last_addition == 2
    with pytest.raises(BankError, match="have this answer already"):
        grown.extend([images[1]])
    with pytest.raises(UnreadableImageError):
        bank.extend([images[2], "absent.png"])


@pytest.mark.parametrize("damage", ["additions", "order", "history", "last"])
def test_a_history_that_does_not_fit_is_refused(made, tmp_path, damage):
    bank, images = made
    path = tmp_path / "bank.safetensors"
    bank.extend(images[:2]).save(str(path))
    tensors, about = read_tensors(path)
    if damage == "additions":
        tensors["additions"] = tensors["additions"][:-1]
    elif damage == "order":
        tensors["additions"] = tensors["additions"][::-1].copy()
    elif damage == "history":
        about["history"] = []
    else:
        about["history"][-1]["last_addition"] = 1
    write_tensors(path, tensors, about)
    with pytest.raises(BankError, match="not a reference bank"):
        ReferenceBank.load(str(path), backbone=bank.backbone)


def test_only_the_newest_good_parts_are_references():
    parts = np.array([0, 0, 1, 5, 70])

    def after(*counts, defective=()):
        said = [(f"{place} {number}" for number in range(count)) for place, count in enumerate(counts)]
        lasts = [0, *np.cumsum(counts).tolist()]
        history = [BankRevision("", (), tuple(keys), last) for keys, last in zip([(), *said], lasts)]
        return in_use(parts, [*history, BankRevision("", (), defective, lasts[-1], (), True)]).tolist()

    assert after() == [True, True, False, False, False]
    assert after(64) == after(4, 60) == [True, True, True, True, False]
    assert after(64, 6) == [True, True, False, False, True]
    assert after(4, 60, defective=("1 0", "1 3")) == [True, True, True, False, False]
    # photos of the set that were answered "good" in its report are not added parts
    assert after(0, 4, 60, defective=("0 0",)) == after(64)
    answered = [((), 0, False), (("a", "b"), 0, False), (("c",), 1, False), (("a",), 1, True), (("c",), 1, True)]
    history = [BankRevision("", (), keys, last, (), defective) for keys, last, defective in answered]
    assert in_use(np.array([0, 1]), history[:4]).tolist() == [True, True]
    assert in_use(np.array([0, 1]), history).tolist() == [True, False]
