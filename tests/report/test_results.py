import csv
import dataclasses
import hashlib
import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from PIL import Image

from codegraph_jax.config import Config, ReportConfig
from codegraph_jax.consistency.decision import Answers
from codegraph_jax.consistency.groups import PatternMatch, RecurringPatterns
from codegraph_jax.consistency.review import PhotoReview
from codegraph_jax.consistency.spacing_law import KINDS, SpacingLaw
from codegraph_jax.core.progress import Clock
from codegraph_jax.report.results import write_results
from codegraph_jax.report.serialise import write_arrays
from codegraph_jax.report.terminal import closing_line, notices, pattern_lines, photos_table
from codegraph_jax.report.wording import rarity_texts
from tests.report.outcomes import HOSTILE, make_outcome

NAMES = [f"kind_{i % 2}/{i:03d}.png" for i in range(14)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("run")
    outcomes = [
        make_outcome(root / "data", NAMES, "part", labelled=True),
        make_outcome(root / "data", NAMES[:12], "other", recurring=0, seed=1),
    ]
    workdir = root / "out"
    write_results(workdir, Config(), outcomes, Clock())
    return workdir, outcomes


def read_rows(workdir: Path) -> list[dict[str, str]]:
    with (workdir / "scores.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def digests(workdir: Path) -> dict[str, str]:
    return {
        str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workdir.rglob("*"))
        if path.is_file()
    }


def test_scores_csv_has_a_row_for_every_image_in_order(run):
    workdir, outcomes = run
    rows = read_rows(workdir)
    assert list(rows[0])[:6] == ["path", "category", "label", "score", "score_rescored", "rank"]
    assert list(rows[0])[6:] == ["p_value", "flagged", "verdict", "group"]
    assert [row["path"] for row in rows] == [sample.path for outcome in outcomes for sample in outcome.samples]
    assert [row["flagged"] for row in rows[:5]] == ["1", "1", "1", "1", "0"]
    assert [row["group"] for row in rows[:5]] == ["1", "1", "1", "", ""]
    assert [row["label"] for row in rows[12:16]] == ["good", "good", "", ""]
    np.testing.assert_allclose([float(row["score"]) for row in rows[:14]], outcomes[0].result.scores, atol=1e-6)


def test_scores_json_equals_the_csv(run):
    workdir, _ = run
    records, rows = json.loads((workdir / "scores.json").read_text()), read_rows(workdir)
    assert len(records) == len(rows)
    for record, row in zip(records, rows):
        assert record["path"] == row["path"]
        assert record["flagged"] == (row["flagged"] == "1")
        assert str(record["group"] or "") == row["group"]
        assert record["p_value"] == pytest.approx(float(row["p_value"]), rel=1e-3)


def test_p_values_order_images_as_raw_scores_do(run):
    _, outcomes = run
    for outcome in outcomes:
        order = np.argsort(outcome.result.scores)
        assert (np.diff(outcome.result.p_values[order]) <= 1e-15).all()


def test_masks_have_the_images_own_size_and_cover_the_defect(run):
    workdir, _ = run
    for i in range(4):
        mask = np.asarray(Image.open(workdir / "masks" / "part" / f"{NAMES[i]}.png"))
        assert mask.shape == (60, 80) and set(np.unique(mask)) <= {0, 255}
        assert mask[22, 58] == 255, "the middle of the defect"
        assert mask[:, :30].max() == 0 and mask[45:].max() == 0
    assert not (workdir / "masks" / "part" / f"{NAMES[4]}.png").exists(), "not flagged"


def test_heat_maps_have_the_size_of_the_image(run):
    workdir, _ = run
    for name in NAMES:
        assert Image.open(workdir / "heatmaps" / "part" / f"{name}.png").size == (80, 60)


def test_communities_name_members_and_boxes_in_pixels(run):
    workdir, outcomes = run
    communities = json.loads((workdir / "groups.json").read_text())
    assert list(communities) == ["part", "other"] and communities["other"] == []
    (community,) = communities["part"]
    assert community["members"] == [sample.path for sample in outcomes[0].samples[:3]]
    assert (community["id"], community["mean_links"], community["chance_p_value"]) == (1, 7.5, 0.001)
    assert community["boxes"][2] == {"path": outcomes[0].samples[2].path, "box": [50, 15, 70, 30]}


def test_duplicates_and_views_are_listed(run):
    workdir, outcomes = run
    alike = json.loads((workdir / "similar.json").read_text())
    paths = [sample.path for sample in outcomes[1].samples]
    assert alike["other"] == {"duplicates": [paths[4:6]], "views": [paths[6:9]]}


def test_contact_sheet_shows_every_member_with_its_box(run):
    workdir, _ = run
    sheet = np.asarray(Image.open(workdir / "groups" / "part-1.png").convert("RGB")).astype(int)
    frame = (abs(sheet - [0xE5, 0x00, 0x7D]).sum(axis=-1) < 10).sum(axis=0) > 10
    assert (np.diff(frame.astype(int)) == 1).sum() == 2 * 3, "two upright edges for each of three members"


def test_graph_can_be_read_back(run):
    workdir, outcomes = run
    graph = nx.read_graphml(workdir / "graphs" / "part.graphml", node_type=int)
    assert graph.number_of_nodes() == 14
    assert graph.nodes[1]["path"] == outcomes[0].samples[1].path and graph.nodes[1]["group"] == 1
    assert "group" not in graph.nodes[5]
    assert graph.edges[1, 2]["weight"] == 8.0 and graph.edges[3, 4]["weight"] == 1.0


def test_maps_are_those_of_the_result(run):
    workdir, outcomes = run
    with np.load(workdir / "maps.npz", allow_pickle=False) as maps:
        assert maps.files == ["part", "other"]
        np.testing.assert_allclose(maps["other"], outcomes[1].result.maps(), atol=1e-3)


def test_arrays_written_in_blocks_equal_those_of_numpy(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
    write_arrays(tmp_path / "a.npz", [("x", rows.shape, iter([rows[:4], rows[4:]])), ("empty", (0, 3), [])])
    np.save(tmp_path / "x.npy", rows.astype(np.float16))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.read("x.npy") == (tmp_path / "x.npy").read_bytes()
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["empty"].shape == (0, 3) and arrays["empty"].dtype == np.float16


def test_the_manifest_has_thresholds_and_nothing_is_left_half_written(run):
    workdir, outcomes = run
    manifest = json.loads((workdir / "manifest.json").read_text())
    assert manifest["thresholds"]["part"]["threshold"] == outcomes[0].result.calibration.threshold
    assert manifest["thresholds"]["part"]["flagged_count"] == 4 and "results" in manifest["seconds"]
    assert [path.name for path in workdir.rglob(".*")] == [".written.json"]


def test_equal_runs_give_equal_bytes(run, tmp_path):
    workdir, outcomes = run
    write_results(tmp_path, Config(), outcomes, Clock())
    first, second = digests(workdir), digests(tmp_path)
    for name in ("manifest.json", "report.html"):
        assert first.pop(name) and second.pop(name), "they contain times"
    assert first == second
    pages = [(place / "report.html").read_text(encoding="utf-8") for place in (workdir, tmp_path)]
    assert len({re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d\S\d\d:\d\d)?", "", page) for page in pages}) == 1


def test_the_report_shows_how_closely_the_patches_follow_the_spacing_law(tmp_path):
    outcome = make_outcome(tmp_path, NAMES)
    law = SpacingLaw((8.0, 9.5, 11.0), dict.fromkeys(KINDS, [0.1, 0.05]), [0.05] * 20, 0.1, {"0.01": 0.02, "0.2": 0.2})
    recurring = replace(outcome.result.recurring, spacing_law=law)
    outcome = replace(outcome, result=replace(outcome.result, recurring=recurring))
    write_results(tmp_path / "out", Config(), [outcome], Clock())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Tail index α 9.5" in page and "2% of the normal patches look suspicious" in page


def test_closing_line_counts_the_flagged(run):
    workdir, outcomes = run
    line = closing_line(workdir, Config(), outcomes)
    found = " (0 of 10 good, 4 of 4 defective by their labels)"
    assert line == f"8 of 26 photos flagged{found}, 10 to check; report: {workdir / 'report.html'}"
    assert closing_line(workdir, Config(report=ReportConfig(("heatmaps", "masks", "maps"))), outcomes[1:]) == (
        f"4 of 12 photos flagged, 5 to check; results: {workdir}"
    )


@pytest.mark.parametrize(
    ("verdict", "line"),
    [("defect", "defect 1: 3 of 14"), ("variant", "variant 1: 3 of 14"),
     ("undecided", "group 1 (defect or variant?): 3 of 14")],
)  # fmt: skip
def test_the_terminal_lists_recurring_patterns(tmp_path, verdict, line):
    assert pattern_lines([make_outcome(tmp_path, NAMES, verdict=verdict)]) == [line]


def test_the_terminal_reports_too_few_photos_and_groups_without_an_answer(tmp_path):
    few = make_outcome(tmp_path / "few", NAMES[:9], "few")
    enough, many = (make_outcome(tmp_path / "more", NAMES, anomalous=count, recurring=0) for count in (0, 4))
    assert "4 of 14 photos are flagged; if so many cannot be defective" in notices([many])[0]
    assert notices([few, enough]) == [
        "few: 9 photos are too few for reliable verdicts: use at least 12, or inspect them with a bank: "
        "codegraph inspect BANK PHOTOS",
        "part: provisional: answer for about eight photos in the report before you rely on the verdicts",
    ]


def test_photos_that_only_show_tolerated_defects_are_counted(tmp_path):
    outcome = make_outcome(tmp_path, NAMES)
    result = outcome.result
    calibration = replace(result.calibration, min_defect_length=25.0)
    passed = np.zeros_like(result.flagged)
    outcome = replace(outcome, result=replace(result, calibration=calibration, flagged=passed))
    reached = int((result.scores >= calibration.threshold).sum())
    said = f"part: {reached} photos reach the threshold and pass, since their defects are shorter than 25 px."
    assert reached > 1 and said in notices([outcome])
    write_results(tmp_path / "out", Config(), [outcome], Clock())
    assert said in (tmp_path / "out" / "report.html").read_text()
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [row["verdict"] for row, score in zip(rows, result.scores) if score >= calibration.threshold] == [
        "passed"
    ] * reached


def test_groups_are_printed_with_verdict_and_evidence(run):
    workdir, _ = run
    listing = json.loads((workdir / "groups.json").read_text())
    (entry,) = listing["part"]
    assert (entry["name"], entry["verdict"], entry["reviewed"], entry["previous_batch"]) == ("", "defect", False, None)
    assert entry["evidence"] == {
        "score_p_value": 0.01,
        "repeat_distance_ratio": 1.5,
        "outside_distance_ratio": 1.4,
        "distance_inequality_ratio": 0.9,
    }
    assert listing["other"] == []


def test_a_known_pattern_that_is_on_no_photo_is_listed_without_members(tmp_path):
    outcome = make_outcome(tmp_path, NAMES)
    found = outcome.result.recurring
    known = replace(
        found.patterns[0].for_other_sets(found.product, len(NAMES)), name="tool mark", member_count=9, image_count=150
    )
    recurring = replace(found, matches=(PatternMatch(known, 2, ()),))
    outcome = replace(outcome, result=replace(outcome.result, recurring=recurring))
    write_results(tmp_path / "out", Config(), [outcome], Clock())
    *_, entry = json.loads((tmp_path / "out" / "groups.json").read_text())["part"]
    assert (entry["name"], entry["members"], entry["boxes"]) == ("tool mark", [], [])
    assert entry["previous_batch"] == {"member_count": 9, "image_count": 150}
    assert pattern_lines([outcome])[-1] == "tool mark (defect): 0 of 14, previous batch 9 of 150"


def test_metrics_count_false_alarms_and_flagged_defects(run):
    workdir, _ = run
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["counts"]["part"] == {
        "good": 10, "false_alarms": 0, "defective": 4, "defective_flagged": 4,
    }  # fmt: skip
    assert metrics["counts"]["other"]["good"] == 0, "no labels"
    assert set(metrics["categories"]) == {"part", "other"} and "image_auroc" in metrics["mean"]


def test_parts_can_be_switched_off(tmp_path):
    outcome = make_outcome(tmp_path / "data", NAMES)
    config = Config(report=ReportConfig(()))
    write_results(tmp_path / "out", config, [outcome], Clock())
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "graphs", "groups", "groups.json", "manifest.json", "metrics.json", "regions.csv", "regions.json",
        "scores.csv", "scores.json", "similar.json",
    ]  # fmt: skip


def test_an_interrupted_run_has_no_manifest(tmp_path, monkeypatch):
    outcome = make_outcome(tmp_path / "data", NAMES)
    write_results(tmp_path / "out", Config(), [outcome], Clock())
    Path(outcome.samples[3].path).unlink()
    with pytest.raises(ValueError, match="003.png"):
        write_results(tmp_path / "out", Config(), [outcome], Clock())
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_hostile_names_survive_as_names(tmp_path):
    names = [*HOSTILE, *(f"{'x' * 240}{i}.png" for i in range(6))]
    outcome = make_outcome(tmp_path / "data", names, category="a\udcfe<b>")
    workdir = tmp_path / "out"
    write_results(workdir, Config(), [outcome], Clock())
    rows = read_rows(workdir)
    assert all(row["path"].endswith("/" + name) for row, name in zip(rows, names)) and len(rows) == len(names)
    assert [record["path"] for record in json.loads((workdir / "scores.json").read_text())] == [
        sample.path for sample in outcome.samples
    ]
    assert len(list((workdir / "heatmaps").rglob("*.png"))) == len(names)
    assert nx.read_graphml(next((workdir / "graphs").iterdir())).number_of_nodes() == len(names)
    (sheet,) = (workdir / "groups").iterdir()
    assert Image.open(io.BytesIO(sheet.read_bytes())).width > 600


@pytest.mark.parametrize("anomalous", [0, 1])
def test_the_smallest_set_gets_a_report(tmp_path, anomalous):
    outcome = make_outcome(tmp_path / "data", ["a.png", "b.png"], anomalous=anomalous, recurring=0)
    empty = dataclasses.replace(outcome.result, recurring=RecurringPatterns())
    write_results(tmp_path / "out", Config(), [dataclasses.replace(outcome, result=empty)], Clock())
    assert 'id="recurring"' not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert nx.read_graphml(tmp_path / "out" / "graphs" / "part.graphml").number_of_nodes() == 0


def test_each_photo_shows_its_answer_mark_or_probability(tmp_path):
    outcome = make_outcome(tmp_path, NAMES, recurring=0)
    result, keys = outcome.result, outcome.result.keys
    assert all(said.endswith("good parts") for said in rarity_texts(result))
    order = np.argsort(result.scores)
    photos = {keys[i]: PhotoReview(keys[i], answer=said) for i, said in
              ((order[-1], "defective"), (order[0], "good"), (order[1], "good"))}  # fmt: skip
    answered = dataclasses.replace(result, answers=Answers(photos))
    # a photo with the mark of a defective one is flagged at any score
    calibration = result.calibration.with_threshold(float(answered.calibrator().threshold), "answers")
    flagged = calibration.flags(result.scores)
    flagged[order[2]] = True
    answered = dataclasses.replace(answered, calibration=calibration, flagged=flagged)
    said = rarity_texts(answered)
    assert [said[i] for i in (order[-1], order[0], order[2])] == ["you: defective", "you: good", "flagged by its mark"]
    assert re.fullmatch(r"defective: (\d+|more than 99|less than 1)%", said[order[-2]])
    assert " how unusual " in photos_table([outcome])
    assert " probability " in photos_table([dataclasses.replace(outcome, result=answered)])


def left_half(width: int, height: int) -> np.ndarray:
    return np.broadcast_to(np.arange(width) < width // 2, (height, width))


@pytest.mark.parametrize("partly", [False, True])
def test_the_page_says_whether_photos_are_inspected_in_part(tmp_path, partly):
    outcome = make_outcome(tmp_path / "photos", NAMES)
    if partly:
        outcome = replace(outcome, areas=[left_half] * len(NAMES))
    write_results(tmp_path / "out", Config(), [outcome], Clock())
    page = (tmp_path / "out" / "report.html").read_text()
    assert ('data-t="inspected_in_part"' in page) == partly
