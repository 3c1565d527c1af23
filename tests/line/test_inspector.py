"""The inspector: each part gets the verdict of the bank and its alarms once, also after errors of the ledger."""

import sqlite3
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

from codegraph_jax.bank.file import BankError
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.signature import Signature, patch_vectors
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.line import inspector as module
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import Ledger, StateUpdate
from codegraph_jax.line.monitors import OTHER_PRODUCT_RUN, Monitors
from codegraph_jax.line.part import Alarm, ReceivedPhoto
from tests.line.conftest import NEW_COUNT, marked_copy


def test_a_verdict_is_that_of_the_bank(inspector, bank, photos):
    inspection = bank.inspect([str(path) for path in photos])
    for place, path in enumerate(photos):
        part = inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
        assert part.status == "inspected" and part.id == place + 1
        assert part.score == pytest.approx(inspection.scores[place], abs=1e-6)
        assert part.p_value == pytest.approx(inspection.p_values[place], rel=1e-3)
        assert part.flagged == inspection.flagged[place] and part.threshold == bank.calibration.threshold
        assert (part.width, part.height) == (64, 64) and part.bank == bank.digest
        assert bool(part.regions) == part.flagged and part.heatmap.startswith(b"\x89PNG")
        row, column = np.unravel_index(inspection.patch_scores[place].argmax(), bank.frame.grid)
        assert part.peak_position == pytest.approx(((column + 0.5) / 4, (row + 0.5) / 4), abs=1e-3)
    assert inspector.ledger.counts()["inspected"] == len(photos)


def test_a_key_is_inspected_once(inspector, photos, monkeypatch):
    first = inspector.inspect(ReceivedPhoto("k", "a", str(photos[0])))
    monkeypatch.setattr(module, "load_image", lambda *arguments: pytest.fail("inspected again"))
    assert inspector.inspect(ReceivedPhoto("k", "b", str(photos[1]))) == first


def test_unreadable_photos_are_listed_with_the_reason(inspector, tmp_path):
    (tmp_path / "text.png").write_text("no photo")
    failed = inspector.inspect(ReceivedPhoto("t", "text.png", str(tmp_path / "text.png")))
    assert failed.status == "not_inspected" and failed.failure and failed.score is None and failed.flagged is None
    gone = inspector.inspect(ReceivedPhoto("g", "gone.png", str(tmp_path / "gone.png")))
    assert gone.status == "not_inspected" and "gone.png" not in gone.failure
    assert inspector.inspect(ReceivedPhoto("w", "w", str(tmp_path / "text.png")), lambda failed: failed) is None
    assert inspector.ledger.counts() == {"inspected": 0, "not_inspected": 2, "flagged": 0}


def test_the_line_continues_after_an_error_of_a_part(inspector, photos, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(module, "picture_statistics", lambda image: 1 / 0)
        failed = inspector.inspect(ReceivedPhoto("a", "a", str(photos[0])))
    assert failed.status == "not_inspected" and failed.failure.startswith("ZeroDivisionError")
    assert inspector.inspect(ReceivedPhoto("b", "b", str(photos[0]))).status == "inspected"


def test_photo_that_crashes_twice_fails_at_the_third_start(bank, ledger, photos, tmp_path, monkeypatch):
    """For example out of memory: the part is inspected first at every start, so the line would never start again."""

    class Killed(BaseException):
        pass

    def kill(*arguments):
        # nothing runs after a kill
        monkeypatch.setattr(Ledger, "clear_attempts", lambda ledger, photo: None)
        raise Killed

    path = str(photos[0])
    for _ in range(module.MAX_ATTEMPTS):
        with monkeypatch.context() as killed:
            killed.setattr(module, "load_image", kill)
            with pytest.raises(Killed):
                Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto("k", "a", path, "c"))
        monkeypatch.undo()
    failed = Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto("k", "a", path, "c"))
    assert failed.status == "not_inspected" and "ended 2 times" in failed.failure
    # nor under another key
    assert Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto("l", "a", path, "c")).status == "not_inspected"
    assert Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto("m", "a", path, "d")).status == "inspected"


def test_finished_attempts_are_not_counted(inspector, photos, monkeypatch):
    path = str(photos[0])
    with monkeypatch.context() as full:
        full.setattr(Ledger, "record", _full)
        for _ in range(5):
            with pytest.raises(LedgerUnavailableError):
                inspector.inspect(ReceivedPhoto("k", "a", path))
    for _ in range(5):
        assert inspector.inspect(ReceivedPhoto("k", "a", path), lambda failed: True) is None
    assert inspector.inspect(ReceivedPhoto("k", "a", path)).status == "inspected"
    assert inspector.ledger.begin_attempt("k") == 1


def test_regions_of_a_large_photo_are_looked_for_at_a_bounded_size(bank, ledger, photos, tmp_path, monkeypatch):
    """Regions are computed from few patches; at full size a photo of 22 kB takes 20 s."""
    path, sizes = marked_copy(photos[0], tmp_path / "marked.png"), []
    find = module.find_regions
    monkeypatch.setattr(module, "find_regions", lambda *given: (sizes.append(given[4].shape), find(*given))[1])
    small = Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto("a", "a", str(path)))
    monkeypatch.setattr(module, "REGION_PIXELS", 40 * 40)
    large = Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto("b", "b", str(path)))
    assert sizes == [(64, 64), (40, 40)] and small.flagged
    assert large.regions[0]["box"] == pytest.approx(small.regions[0]["box"], abs=3)
    assert large.regions[0]["area"] == pytest.approx(small.regions[0]["area"], rel=0.15)
    for width, height in ((13370, 13370), (1, 179_000_000), (65500, 2700)):
        assert np.prod(module._bounded(width, height)) <= 4_000_000 and max(module._bounded(width, height)) <= 8192


def test_a_part_with_a_score_of_nan_is_not_inspected(bank, ledger, photos, tmp_path, monkeypatch):
    """NaN exceeds no threshold, so that the part would pass."""
    broken = replace(bank, references=replace(bank.references, layers=[x * np.nan for x in bank.references.layers]))
    part = Inspector(broken, ledger, tmp_path).inspect(ReceivedPhoto("k", "a", str(photos[0])))
    assert part.status == "not_inspected" and "not a finite number" in part.failure
    with pytest.raises(BankError, match="00.png"):
        broken.inspect([str(photos[0])])


def test_a_replaced_row_is_removed_completely(inspector, bank, photos, tmp_path):
    other = Inspector(bank, Ledger(tmp_path / "other.sqlite"), tmp_path)
    for number, path in enumerate(photos[:3]):
        inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
        if number != 1:
            other.inspect(ReceivedPhoto(path.name, path.name, str(path)))
    (half,) = (part for part in inspector.ledger.latest(9) if part.name == photos[1].name)
    whole = inspector.inspect(ReceivedPhoto("whole", photos[1].name, str(photos[1])), replaces=half.id)
    assert whole.id == 4 and inspector.ledger.by_number(half.id) is None
    assert inspector.ledger.counts()["inspected"] == 3
    other.ledger.close()


def test_monitors_agree_with_the_ledger(inspector, bank, photos, monkeypatch, tmp_path):
    """A part that could not be recorded counts once if it is inspected again."""
    paths = [str(path) for path in photos]
    other = Inspector(bank, Ledger(tmp_path / "other.sqlite"), tmp_path)
    for path in paths:
        other.inspect(ReceivedPhoto(path, path, path))
    record = Ledger.record
    for number, path in enumerate(paths):
        if number % 3 == 1:
            with monkeypatch.context() as full:
                full.setattr(Ledger, "record", _full)
                with pytest.raises(LedgerUnavailableError):
                    inspector.inspect(ReceivedPhoto(path, path, path))
            assert Ledger.record is record
        inspector.inspect(ReceivedPhoto(path, path, path))
    for name in ("drift", "recurrence"):
        assert inspector.ledger.state(name) == other.ledger.state(name)
    assert inspector.ledger.peak_patches() == other.ledger.peak_patches()
    other.ledger.close()


def _full(*arguments, **fields):
    raise LedgerUnavailableError("full")


def test_monitors_continue_after_a_restart(inspector, bank, ledger, photos, tmp_path):
    whole = Inspector(bank, Ledger(tmp_path / "whole.sqlite"), tmp_path)
    for place, path in enumerate(photos):
        whole.inspect(ReceivedPhoto(str(path), path.name, str(path)))
        # a new inspector for every part
        Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto(str(path), path.name, str(path)))
        assert ledger.state("drift") == whole.ledger.state("drift"), place
    assert ledger.state("recurrence") == whole.ledger.state("recurrence")
    whole.ledger.close()


def test_another_bank_restarts_the_chart_of_scores(bank, ledger, photos, tmp_path):
    for place, path in enumerate(photos):
        Inspector(bank, ledger, tmp_path).inspect(ReceivedPhoto(f"first {place}", path.name, str(path)))
    first = ledger.state("drift")
    other = bank.extend([str(photos[0])])
    drift = Monitors(other, ledger, 10_000).drift
    assert len(drift.charts["score"].values) == (~other.calibration.flags(other.calibration_set.scores)).sum()
    assert drift.charts["score"].ignored_up_to == len(photos) and drift.charts["score"].tested == 0
    assert drift.charts["brightness"].state() == first["brightness"]
    Inspector(other, ledger, tmp_path).inspect(ReceivedPhoto("then", "then", str(photos[1])))
    again = Monitors(other, ledger, 10_000).drift
    assert len(again.charts["score"].values) == len(drift.charts["score"].values) + 1
    # features of another backbone cannot be compared
    wider = replace(bank.backbone, blocks=(0, 1, 2))
    assert not Monitors(replace(bank, backbone=wider), ledger, 10_000).recurrence._parts


def test_parts_with_the_same_mark_raise_an_alarm_with_a_sheet(inspector, photos, tmp_path):
    raised = []
    for number in range(6):
        path = marked_copy(photos[number], tmp_path / f"marked{number}.png")
        part = inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
        assert inspector.inspect(ReceivedPhoto(photos[number].name, "good", str(photos[number]))).status == "inspected"
        raised += part.alarms
    recurring = [alarm for alarm in raised if alarm.kind == "recurrence"]
    assert len(recurring) == 1 and len(recurring[0].parts) >= 3
    names = [inspector.ledger.by_number(number).name for number in recurring[0].parts]
    assert all(name.startswith("marked") for name in names)
    sheet = tmp_path / module.ALARMS / f"{recurring[0].id}.png"
    assert sheet.is_file() and inspector.sheet(recurring[0]) == sheet
    sheet.unlink()
    (tmp_path / names[0]).unlink()
    assert inspector.sheet(recurring[0]).is_file()
    assert inspector.sheet(Alarm("drift", "score", "m", id=9)) is None


def test_an_alarm_that_a_person_acknowledges_is_not_raised_again(inspector, bank, photos, tmp_path):
    def marked(number: int):
        return marked_copy(photos[number % NEW_COUNT], tmp_path / f"marked{number}.png")

    raised = []
    for number in range(6):
        path = marked(number)
        part = inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
        raised += [alarm for alarm in part.alarms if alarm.kind == "recurrence"]
    ledger, (alarm,) = inspector.ledger, raised
    assert inspector.acknowledge(alarm.id, "a new batch").acknowledgement == "a new batch"
    assert ledger.alarm(alarm.id).acknowledgement == "a new batch" == ledger.alarms(1)[0].acknowledgement
    assert inspector.acknowledge(10**6, "a new batch") is None
    # without and with a restart
    for line in (inspector, Inspector(bank, ledger, tmp_path)):
        for number in range(6, 11):
            path = marked(number)
            part = line.inspect(ReceivedPhoto(f"{id(line)} {number}", path.name, str(path)))
            assert not [a for a in part.alarms if a.kind == "recurrence"]
    # peak patches of an alarm's parts are kept
    assert set(alarm.parts) & {number for number, _ in ledger.peak_patches()}
    ledger.record(replace(ledger.by_number(1), id=0, key="later", alarms=()), StateUpdate({}, b"", 10**6, alarm.parts))
    assert {number for number, _ in ledger.peak_patches()} == set(alarm.parts)


def test_parts_of_another_product_are_reported(bank, ledger, photos, tmp_path):
    rng = np.random.default_rng(5)
    strangers = []
    for number in range(OTHER_PRODUCT_RUN + 1):
        strangers.append(tmp_path / f"stranger{number}.png")
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(strangers[-1])
    raised = []

    def score(paths):
        # a new start each time: the length of the run of such parts is in the ledger
        inspector = Inspector(bank, ledger, tmp_path)
        for path in paths:
            part = inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
            raised.append([alarm for alarm in part.alarms if alarm.kind == "product"])

    score(strangers[:3])
    score(strangers[3:])
    assert [len(alarms) for alarms in raised] == [0] * (OTHER_PRODUCT_RUN - 1) + [1, 0], "one alarm"
    (alarm,) = raised[OTHER_PRODUCT_RUN - 1]
    assert "another product" in alarm.message and not alarm.parts[:-1]
    assert Inspector(bank, ledger, tmp_path).acknowledge(alarm.id, "a trial").acknowledgement == "a trial"
    raised.clear()
    score(photos)
    assert not any(raised), "the bank's own product"


def test_a_damaged_entry_of_a_monitor_is_reported(inspector, photos):
    inspector.inspect(ReceivedPhoto("a", "a", str(photos[0])))
    with sqlite3.connect(inspector.ledger.path) as connection:
        connection.execute("UPDATE line_state SET state = '{half'")
    with pytest.raises(LedgerUnavailableError, match="is damaged"):
        Inspector(inspector.bank, inspector.ledger, inspector.workdir).inspect(ReceivedPhoto("b", "b", str(photos[1])))


def test_a_reason_that_cannot_be_recorded_changes_nothing(inspector, photos, monkeypatch):
    part = inspector.inspect(ReceivedPhoto("a", "a", str(photos[0])))
    alarm = replace(part, id=0, key="b", alarms=(Alarm("drift", "score", "m"),))
    number = inspector.ledger.record(alarm).alarms[0].id
    before = inspector.ledger.state("drift")

    def fails(*values: object) -> None:
        raise LedgerUnavailableError("no")

    with monkeypatch.context() as patch:
        patch.setattr(inspector.ledger, "acknowledge", fails)
        with pytest.raises(LedgerUnavailableError):
            inspector.acknowledge(number, "our daily cycle")
    assert inspector.ledger.state("drift") == before and not inspector.ledger.alarm(number).acknowledgement
    assert inspector.acknowledge(number, "our daily cycle").acknowledgement == "our daily cycle"


def test_the_first_part_waits_for_nothing_that_is_compiled(bank, ledger, photos, tmp_path, caplog):
    inspector = Inspector(bank, ledger, tmp_path)
    inspector.warm_up()
    path = marked_copy(photos[0], tmp_path / "marked.png")
    with jax.log_compiles(), caplog.at_level("WARNING"):
        inspector.inspect(ReceivedPhoto("a", "a", str(path)))
    assert not [record for record in caplog.records if "Compiling" in record.message], caplog.text


def known_mark(bank, path, verdict: str):
    """The bank with a pattern named `tool mark`: the patch of a photo with the highest score."""
    features = bank.extractor().extract(as_samples([path]))
    (vectors,) = patch_vectors(features.layers, bank.frame.grid)
    inspection = bank.inspect([str(path)])
    own = vectors[[inspection.patch_scores[0].argmax()]].reshape(1, 2, -1)
    prototypes = np.round(own / np.abs(own).max(axis=-1, keepdims=True) * 127).astype(np.int8)
    signature = Signature(prototypes, np.full(1, 0.1, np.float32), 0.9, 1)
    pattern = Pattern("tool mark", verdict, signature, Product.of(np.asarray(features.image_features)), 3, 14)
    return replace(bank, patterns=[pattern])


@pytest.mark.parametrize("verdict", ["defect", "variant"])
def test_a_named_pattern_is_recognised_and_a_variant_raises_no_alarm(bank, ledger, photos, tmp_path, verdict):
    marked = [marked_copy(photos[number], tmp_path / f"marked{number}.png") for number in range(5)]
    inspector = Inspector(known_mark(bank, marked[0], verdict), ledger, tmp_path)
    parts = [inspector.inspect(ReceivedPhoto(path.name, path.name, str(path))) for path in marked]
    assert all(part.patterns == ("tool mark",) for part in parts)
    raised = [(part.id, alarm.subject) for part in parts for alarm in part.alarms]
    assert raised == ([(3, "tool mark")] if verdict == "defect" else [])
    assert inspector.inspect(ReceivedPhoto("good", "good", str(photos[6]))).patterns == ()
