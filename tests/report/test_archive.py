"""A finished report is kept if the next run has other photos."""

import json

from codegraph_jax.core.file_ownership import note_written, replace_written, written_files
from codegraph_jax.data.search import walk
from codegraph_jax.report.archive import MAX_KEPT, digest_of_photos, keep_earlier


def finished(workdir, photos, date="2026-11-28T09:30:00+00:00", root="/photos"):
    """Writes the files of a run, and returns their names."""
    names = ["report.html", "heatmaps/a.png", "manifest.json"]
    replace_written(workdir, names)
    for name in names:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(photos)
    manifest = {"photos_digest": photos, "date": date, "config": {"data": {"root": root}}}
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    return names


def test_the_report_of_other_photos_is_moved_whole(tmp_path):
    names = finished(tmp_path, "old")
    (tmp_path / "heatmaps" / "mine.png").write_bytes(b"mine")
    line = keep_earlier(tmp_path, "new")
    place = tmp_path / "earlier" / "2026-11-28_093000"
    assert line == f"the report on /photos from 2026-11-28 09:30:00 was moved to {place}"
    assert all((place / name).is_file() for name in names)
    assert (tmp_path / "heatmaps" / "mine.png").read_bytes() == b"mine", "the user's own file is not moved"
    assert not (tmp_path / "manifest.json").exists() and not (tmp_path / "report.html").exists()
    assert not written_files(tmp_path)
    found, left_out = walk(str(tmp_path))
    assert [*found] == ["heatmaps/mine.png"], "kept reports are not inspected"
    finished(tmp_path, "new")
    assert (place / "report.html").is_file(), "the next run does not remove it"


def test_the_same_photos_and_unfinished_reports_are_replaced(tmp_path):
    finished(tmp_path, "same")
    assert keep_earlier(tmp_path, "same") == ""
    (tmp_path / "manifest.json").unlink()
    assert keep_earlier(tmp_path, "other") == ""
    for text in ("", "[]", "{"):
        (tmp_path / "manifest.json").write_text(text)
        assert keep_earlier(tmp_path, "other") == ""
    assert not (tmp_path / "earlier").exists()


def test_ten_reports_are_kept(tmp_path):
    for i in range(MAX_KEPT + 3):
        finished(tmp_path, str(i), f"2026-11-{i + 1:02}T00:00:00")
        keep_earlier(tmp_path, str(i + 1))
    kept = sorted(path.name for path in (tmp_path / "earlier").iterdir())
    assert len(kept) == MAX_KEPT and kept[0] == "2026-11-04_000000"


def test_two_reports_of_one_second_and_one_without_a_date(tmp_path):
    for i in range(3):
        finished(tmp_path, str(i), "2026-11-28T09:30:00" if i else "../../x")
        keep_earlier(tmp_path, str(i + 1))
    assert len([*(tmp_path / "earlier").iterdir()]) == 3
    assert not (tmp_path.parent / "x").exists()


def test_files_that_this_run_has_drawn_stay(tmp_path):
    finished(tmp_path, "old")
    note_written(tmp_path, ["images/a.png"])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    keep_earlier(tmp_path, "new", ["images/a.png"])
    assert (tmp_path / "images" / "a.png").is_file()
    assert {*written_files(tmp_path)} == {"images/a.png"}


def test_photos_are_known_by_name_size_and_time(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"1")
    first = digest_of_photos([("a.png", str(file))])
    assert digest_of_photos([("a.png", str(file))]) == first
    assert digest_of_photos([("b.png", str(file))]) != first
    file.write_bytes(b"22")
    assert digest_of_photos([("a.png", str(file))]) != first
    assert digest_of_photos([("\udcff\ud800", str(tmp_path / "absent"))])
