"""Files of a run are listed and removed by the next run; no other files are touched."""

import os

import pytest

from codegraph_jax.core.file_ownership import (
    LISTING,
    ForeignFileError,
    note_written,
    replace_written,
    require_own,
    written_files,
)


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def files(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {LISTING}


def test_files_of_a_former_run_are_removed_and_those_of_a_person_kept(tmp_path):
    former = ["scores.csv", "masks/a/1.png", "masks/a/2.png", "heatmaps/deep/er/1.png"]
    replace_written(tmp_path, former)
    write(tmp_path, *former, "masks/a/mine.png", "notes.txt")
    replace_written(tmp_path, ["scores.csv", "masks/a/2.png"])
    assert files(tmp_path) == {"scores.csv", "masks/a/2.png", "masks/a/mine.png", "notes.txt"}
    assert not (tmp_path / "heatmaps").exists(), "empty directories are removed too"
    assert written_files(tmp_path) == {"scores.csv", os.path.join("masks", "a", "2.png")}  # noqa: PTH118


def test_an_interrupted_run_leaves_no_unlisted_file(tmp_path):
    replace_written(tmp_path, ["a.png"])
    write(tmp_path, "a.png")
    replace_written(tmp_path, ["b.png", "c.png"])
    write(tmp_path, "b.png")  # the process is killed here
    replace_written(tmp_path, ["d.png"])
    assert files(tmp_path) == set()


def test_names_are_added(tmp_path):
    note_written(tmp_path, ["a.png"])
    note_written(tmp_path, ["images/b.png"])
    assert written_files(tmp_path) == {"a.png", os.path.join("images", "b.png")}  # noqa: PTH118


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"files": 3}',
        '{"files": [1, "../out.txt", "/etc/out", "a/../../out.txt", "", "a\\u0000b"]}',
        "[" * 10**5,
    ],
)
def test_tampered_list_removes_nothing_outside_the_workdir(text, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    write(tmp_path, "out.txt")
    (home / LISTING).write_text(text)
    assert written_files(home) == set()
    replace_written(home, ["new.png"])
    assert (tmp_path / "out.txt").is_file()


def test_foreign_files_are_not_replaced(tmp_path):
    require_own(tmp_path, ["manifest.json"])
    write(tmp_path, "manifest.json")
    with pytest.raises(ForeignFileError, match="manifest.json: would be replaced, but this program did not write it"):
        require_own(tmp_path, ["scores.csv", "manifest.json"])
    note_written(tmp_path, ["manifest.json"])
    require_own(tmp_path, ["manifest.json"])
