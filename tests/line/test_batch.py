"""Tasks that use a ledger: inspections write its rows, tables are exported, and banks are extended by its parts."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import ExportConfig, ExtendConfig, InspectConfig
from codegraph_jax.core.errors import MissingPackageError
from codegraph_jax.core.settings import ConfigError, with_settings
from codegraph_jax.line import watcher as watcher_module
from codegraph_jax.line.database import LedgerError
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.part import ReceivedPhoto
from codegraph_jax.line.settings import FolderConfig, PartsConfig, ServeConfig, WatchConfig
from codegraph_jax.line.watcher import Folder
from codegraph_jax.tasks import export, extend, inspect, parts, serve, watch
from tests.line.conftest import marked_copy


@pytest.fixture
def saved(bank, tmp_path):
    bank.save(str(tmp_path / "bank.safetensors"))
    return tmp_path / "bank.safetensors"


@pytest.fixture
def folder(photos, tmp_path):
    """Three photos, one of which is marked, and a file that is not a photo."""
    place = tmp_path / "photos"
    place.mkdir()
    for path in photos[:2]:
        shutil.copy2(path, place)
    marked_copy(photos[2], place / photos[2].name)
    (place / "text.png").write_text("no photo")
    return place


def values(config, **groups):
    changes = {name.replace("__", "."): value for name, value in groups.items()}
    return with_settings(config(), changes)


def inspected(saved, folder, workdir):
    inspect.run(values(InspectConfig, bank__path=str(saved), data__root=str(folder)), str(workdir))
    return Ledger(workdir / LEDGER_FILE)


def test_an_inspection_writes_the_rows_of_a_line(saved, folder, tmp_path):
    ledger = inspected(saved, folder, tmp_path / "out")
    rows = {part.name: part for part in ledger.latest(9)}
    scores = {row["path"]: row for row in json.loads((tmp_path / "out" / "scores.json").read_text())}
    regions = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert rows.keys() == {"00.png", "01.png", "02.png", "text.png"}
    assert rows["text.png"].status == "not_inspected" and rows["text.png"].failure
    for name in ("00.png", "01.png", "02.png"):
        part, row = rows[name], scores[str(folder / name)]
        assert (part.score, part.p_value, part.flagged) == (row["score"], row["p_value"], row["flagged"])
        assert len(part.regions) == sum(region["path"] == part.path for region in regions)
    assert rows["02.png"].flagged and rows["02.png"].regions
    ledger.close()


def test_a_line_and_an_inspection_of_the_same_files_are_the_same_rows(saved, folder, tmp_path, monkeypatch):
    """A line in the same workdir inspects no file again, and a second inspection gives the same numbers."""
    monkeypatch.setattr(watcher_module, "SETTLE_SECONDS", 0.0)
    inspected(saved, folder, tmp_path / "out").close()
    again = inspected(saved, folder, tmp_path / "out")
    assert sorted(part.id for part in again.latest(9)) == [1, 2, 3, 4]
    assert Folder(str(folder), again, tmp_path / "out").ready() == []
    line = Inspector(ReferenceBank.load(str(saved)), Ledger(tmp_path / "line.sqlite"), tmp_path)
    for part in again.latest(9):
        other = line.inspect(ReceivedPhoto(part.key, part.name, part.path))
        names = (
            "score",
            "p_value",
            "flagged",
            "threshold",
            "bank",
            "width",
            "height",
            "peak_position",
            "patterns",
            "heatmap",
        )
        for field in names:
            if part.status == "inspected":
                mine, theirs = getattr(other, field), getattr(part, field)
                # photos inspected alone and together may differ in the last of six digits
                assert mine == (pytest.approx(theirs, abs=1.5e-6) if field == "score" else theirs), field
        assert json.loads(json.dumps(other.regions)) == json.loads(json.dumps(part.regions))
    line.ledger.close()
    again.close()


def test_rows_have_the_paths_of_their_photos_from_any_directory(saved, folder, inspector, tmp_path, monkeypatch):
    monkeypatch.setattr(watcher_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.chdir(folder.parent)
    ledger = inspected(saved, Path(folder.name), tmp_path / "out")
    watcher = watch.watcher_of(FolderConfig(root=folder.name), inspector)
    paths = {file.path for file in watcher.folder.ready()}
    assert paths == {part.path for part in ledger.latest(9)} == {str(path) for path in folder.iterdir()}
    ledger.close()


def test_file_that_cannot_be_read_is_named_by_its_absolute_path(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(inspect, "fingerprint_of_file", denied)
    assert inspect.photo_of_file("00.png", "00.png").path == str(folder / "00.png")
    assert inspect.photo_of_file("absent.png", "absent.png").path == "absent.png"


def test_the_table_is_written_while_a_line_is_at_work(inspector, photos, tmp_path, capsys):
    inspector.inspect(ReceivedPhoto("a", "a.png", str(photos[0])))
    parts.run(values(PartsConfig, line=str(tmp_path)), str(tmp_path / "table"))
    rows = list(csv.DictReader((tmp_path / "table" / "parts.csv").open()))
    assert [row["name"] for row in rows] == ["a.png"] and "1 parts" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="holds no"):
        parts.run(values(PartsConfig, line=str(tmp_path / "absent")), str(tmp_path / "table"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / LEDGER_FILE).write_text("no ledger")
    with pytest.raises(LedgerError):
        parts.run(values(PartsConfig, line=str(tmp_path / "bad")), str(tmp_path / "table"))


def test_a_bank_is_extended_by_parts_of_a_line_and_restored(saved, inspector, photos, folder, tmp_path, capsys):
    for path in photos[:3]:
        inspector.inspect(ReceivedPhoto(path.name, path.name, str(path)))
    inspector.record_failure(ReceivedPhoto("f", "f", "/gone.png"), "gone")
    before = ReferenceBank.load(str(saved))

    def run(**groups) -> str:
        extend.run(values(ExtendConfig, **{"bank__path": str(saved)} | groups), str(tmp_path / "unused"))
        return capsys.readouterr().out

    assert "2 called good: 1: 00.png, 3: 02.png" in run(line=str(tmp_path), part_numbers=(1, 3))
    (folder / "text.png").unlink()
    assert ReferenceBank.load(str(saved)).history[-1].last_addition == 2
    other = str(shutil.copy(saved, tmp_path / "other.safetensors"))
    run(bank__path=other, data__root=str(folder))
    assert ReferenceBank.load(other).history[-1].last_addition > 2
    assert "made from a set" in run(back_to=0)
    assert ReferenceBank.load(str(saved)).digest == before.digest
    for number, reason in ((4, "inspected no part 4"), (9, "inspected no part 9")):
        with pytest.raises(ConfigError, match=reason):
            run(line=str(tmp_path), part_numbers=(number,))
    with pytest.raises(ConfigError, match="config.line"):
        run(part_numbers=(1,))
    with pytest.raises(ConfigError, match="back_to"):
        run(line=str(tmp_path), part_numbers=(1,), back_to=0)
    assert not (tmp_path / "unused").exists()


def test_missing_settings_are_named(saved, tmp_path):
    for task, config, field in (
        (watch, WatchConfig, "bank.path"),
        (serve, ServeConfig, "bank.path"),
        (extend, ExtendConfig, "bank.path"),
        (export, ExportConfig, "bank.path"),
    ):
        with pytest.raises(ConfigError, match=f"config.{field}"):
            task.run(values(config), str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="config.watch.root: is empty"):
        watch.run(values(WatchConfig, bank__path=str(saved)), str(tmp_path / "out"))
    absent = values(WatchConfig, bank__path=str(saved), watch__root=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="not a directory"):
        watch.run(absent, str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="so a token is required"):
        serve.run(values(ServeConfig, bank__path=str(saved), serve__host="0.0.0.0"), str(tmp_path / "out"))
    elsewhere = values(ServeConfig, bank__path=str(saved), serve__host="192.0.2.1", serve__token_file=token(tmp_path))
    with pytest.raises(ConfigError, match="cannot listen"):
        serve.run(elsewhere, str(tmp_path / "out"))


def test_a_package_that_is_missing_is_named_with_the_extra(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "codegraph_jax.line.connections", raising=False)
    with pytest.raises(MissingPackageError, match=r"serve needs the package uvicorn, .*pip install"):
        serve.run(values(ServeConfig, bank__path=str(saved)), str(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "watchdog.events", None)
    (tmp_path / "in").mkdir()
    with pytest.raises(MissingPackageError, match="watch needs the package watchdog"):
        watch.run(values(WatchConfig, bank__path=str(saved), watch__root=str(tmp_path / "in")), str(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(MissingPackageError, match="export needs the package flatbuffers"):
        export.run(
            values(ExportConfig, bank__path=str(saved), save=str(tmp_path / "x.stablehlo")), str(tmp_path / "out")
        )


def token(tmp_path) -> str:
    (tmp_path / "token").write_text("a token that is long enough\n")
    return str(tmp_path / "token")
