"""The changes between two runs: numbers, text, and page."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from codegraph_jax.config import CompareConfig, Config, DataConfig
from codegraph_jax.core.file_ownership import ForeignFileError
from codegraph_jax.core.progress import Clock
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.evaluation.changes import RunError, compare_results
from codegraph_jax.report.result_files import heatmap_of
from codegraph_jax.report.results import write_results
from codegraph_jax.tasks import compare
from tests.report.outcomes import HOSTILE, make_outcome, with_scores

NAMES = [f"kind_{i % 2}/{i:03d}.png" for i in range(12)]


def write_run(workdir, root, outcome, **backbone):
    config = Config(data=DataConfig(root=str(root)))
    config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **backbone))
    write_results(workdir, config, [outcome], Clock())
    return workdir


def changed(outcome):
    """The outcome with image 3 no longer flagged, 9 flagged and most anomalous, and another metric."""
    result = outcome.result
    scores, flagged = result.scores.copy(), result.flagged.copy()
    scores[9], scores[3] = 0.9, 0.0
    flagged[[3, 9]] = False, True
    patch_scores = result.patch_scores.copy()
    patch_scores[9] = patch_scores[0]
    other = with_scores(result, scores, flagged=flagged, patch_scores=patch_scores)
    return dataclasses.replace(outcome, result=other, metrics={"image_auroc": 0.9, "pixel_ap": None})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    outcome = make_outcome(root / "photos", NAMES, labelled=True)
    first = write_run(root / "first", root / "photos", outcome)
    return first, write_run(root / "second", root / "photos", changed(outcome), image_size=448), outcome


def test_flags_ranks_metrics_and_settings_that_differ(runs):
    first, second, outcome = runs
    changes = compare_results(first, second)
    assert [photo.name for photo in changes.photos] == [f"part/{name}" for name in NAMES]
    assert [photo.name for photo in changes.newly_flagged] == ["part/kind_1/009.png"]
    assert [photo.name for photo in changes.no_longer_flagged] == ["part/kind_1/003.png"]
    most = changes.most_moved[0]
    assert most.after.rank == 1 and most.name == "part/kind_1/009.png" and most.rank_gain == most.before.rank - 1
    assert changes.metrics == {"part": {"image_auroc": (0.987, 0.9)}}
    assert changes.settings == {"backbone.image_size": (outcome_size(first), 448)}
    assert changes.missing == ((), ())
    scores = [outcome.result.scores, changed(outcome).result.scores]
    ranks = [np.argsort(np.argsort(own)) for own in scores]
    assert changes.correlation("part") == pytest.approx(np.corrcoef(*ranks)[0, 1])


def outcome_size(run):
    return json.loads((run / "manifest.json").read_text())["config"]["backbone"]["image_size"]


def test_a_run_does_not_differ_from_itself(runs):
    changes = compare_results(runs[0], runs[0])
    assert not changes.most_moved and not changes.newly_flagged and not changes.settings
    assert changes.correlation("part") == pytest.approx(1) and not changes.auroc_gain.significant
    assert "12 photos in both" in str(changes) and "newly flagged:" not in str(changes)


def test_the_text_lists_the_changes(runs):
    text = str(compare_results(*runs[:2]))
    assert re.search(r"backbone.image_size +(\d+|default) +448", text)
    assert re.search(r"image AUROC +98.70 +90.00 +-8.70", text)
    assert re.search(r"newly flagged:\n.*\n.*\npart/kind_1/009.png +good", text)
    assert "and 2 more" not in text and "rank A" in text


def test_photos_of_a_moved_folder_are_matched_by_their_names(runs, tmp_path):
    first, second, outcome = runs
    elsewhere = make_outcome(tmp_path / "moved", NAMES[2:] + ["new.png"], labelled=True)
    third = write_run(tmp_path / "third", tmp_path / "moved", elsewhere)
    changes = compare_results(first, third)
    assert len(changes.photos) == 10 and sorted(photo.ranks[1] for photo in changes.photos) == list(range(1, 11))
    assert changes.missing == (("part/kind_0/000.png", "part/kind_1/001.png"), ("part/new.png",))
    assert "10 photos in both, 2 only in A, 1 only in B" in str(changes)
    nothing = write_run(
        tmp_path / "n", tmp_path / "other", make_outcome(tmp_path / "other", [f"x{i}.png" for i in range(9)])
    )
    with pytest.raises(RunError, match="no photo in common"):
        compare_results(first, nothing)


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("manifest.json", None, "holds no manifest.json"),
        ("scores.json", "{", "scores.json.*cannot be read"),
        ("scores.json", '[{"path": 1}]', "damaged"),
        ("scores.json", '[{"path":"a","category":"b","label":0,"score":"9","score_rescored":1,"rank":1,"flagged":true,'
                        '"verdict":"","group":null}]', "damaged"),
        ("metrics.json", "[]", "damaged"),
        ("manifest.json", '{"config": {}}', "damaged"),
    ],
)  # fmt: skip
def test_unfinished_and_damaged_runs_are_refused(runs, tmp_path, name, content, message):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in ("manifest.json", "scores.json", "metrics.json"):
        shutil.copy(runs[0] / file, copy)
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(content)
    with pytest.raises(RunError, match=message):
        compare_results(runs[1], copy)


def test_the_command_prints_and_writes_a_page_with_both_maps(runs, tmp_path, capsys):
    first, second, _ = runs
    config = CompareConfig(before=str(first), after=str(second))
    compare.run(config, str(tmp_path))
    out = capsys.readouterr().out
    assert "newly flagged:" in out and out.rstrip().endswith(f"page: {tmp_path / 'compare.html'}")
    page = (tmp_path / "compare.html").read_text()
    assert page.count("data:image/jpeg") == 2 * (1 + 1 + len(compare_results(first, second).most_moved))
    assert page.count("<script") == 1 and " src=" not in page.replace(' src="data:', "")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    compare.run(config, str(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "compare.html").write_text("mine")
    with pytest.raises(ForeignFileError):
        compare.run(config, str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="config.after: is empty"):
        compare.run(CompareConfig(before=str(first)), str(tmp_path))


def test_names_of_files_are_escaped(tmp_path):
    names = [*(name.replace("\udcff", "") for name in HOSTILE), "plain.png"]
    outcome = make_outcome(tmp_path / "photos", names, category="<i>part</i>", recurring=0)
    result = outcome.result
    other = dataclasses.replace(outcome, result=dataclasses.replace(result, flagged=~result.flagged))
    runs = [write_run(tmp_path / f"run <{i}>", tmp_path / "photos", own) for i, own in enumerate((outcome, other))]
    compare.run(CompareConfig(before=str(runs[0]), after=str(runs[1])), str(tmp_path / "out"))
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("<script>") == 1
    for raw in ("<img src=x", "alert(1)<!--", "<i>part", "run <0>", "\u202e"):
        assert raw not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page


def test_heat_maps_are_found_in_the_workdir_only(tmp_path):
    long = "ä" * 124 + ".png"
    outcome = make_outcome(tmp_path / "photos", ["a.png", "sub/a.png", f"sub/{long}", *NAMES], recurring=0)
    run = write_run(tmp_path / "run", tmp_path / "photos", outcome)
    found = {name: heatmap_of(run, "part", f"/photos/part/{name}") for name in ("a.png", "sub/a.png", f"sub/{long}")}
    assert len({*found.values()}) == 3 and all((run / name).is_file() for name in found.values())
    assert str(found["sub/a.png"]) == "heatmaps/part/sub/a.png.png"
    (tmp_path / "secret.png.png").write_bytes(b"")
    (run / "heatmaps" / "part" / "link.png").symlink_to(tmp_path / "secret.png.png")
    for path in ("../../../secret.png", "link", "b.png", "a\0.png", "\ud800", "", "x" * 5000):
        assert heatmap_of(run, "part", path) is None
    for category in ("../..", str(tmp_path)):
        assert heatmap_of(run, category, "secret.png") is None
