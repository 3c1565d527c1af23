"""The file with the progress of a run, which other programs read."""

import json

from codegraph_jax.core import progress
from codegraph_jax.core.progress import PROGRESS_FILE, bar, note_estimate, progress_in


def test_the_file_follows_the_bar_and_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "WRITE_SECONDS", 0.0)

    def read():
        return json.loads((tmp_path / PROGRESS_FILE).read_text())

    with progress_in(tmp_path):
        assert read()["stage"] == "start"
        note_estimate(network=5.0)
        with bar(4, "network", "image") as advance:
            advance(1)
            assert (read()["stage"], read()["done"], read()["total"]) == ("network", 1, 4)
            advance(3)
        assert read()["done"] == 4 and read()["estimate"] == {"network": 5.0}
        with bar(4, "hidden", "image", enabled=False) as advance:
            advance(1)
        assert read()["stage"] == "network"
    assert list(tmp_path.iterdir()) == []
    with bar(1, "outside", "image") as advance:
        advance(1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / "file").write_text("no directory")
    with progress_in(tmp_path / "file"), bar(1, "stage", "image") as advance:
        advance(1)
    assert (tmp_path / "file").read_text() == "no directory"
