"""Sweeps: their points, stored cells, and tables."""

import json

import numpy as np
import pytest

from codegraph_jax.config import Config
from codegraph_jax.core.bootstrap import LabelledScores, auroc_difference, not_significantly_worse
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError
from studies.sweeps.sweep import Cell, CellStore, Sweep, halves, mean_difference, read_points

METRICS = {"image_auroc": "image AUROC", "pixel_ap": "pixel AP", "fpr95": "FPR95"}
LABELS = [0] * 20 + [1] * 20


def points(*vary):
    return read_points(vary, Config())


def swept(values, groups=("a", "b"), **about):
    """A sweep from {variant: {(group, repeat): metrics}}."""
    chosen = points(f"scoring.score={','.join(values)}")
    cells = [
        Cell({"scoring.score": name}, group, repeat, metrics)
        for name, found in values.items()
        for (group, repeat), metrics in found.items()
    ]
    return Sweep(chosen, groups, cells, METRICS, **about)


def test_points_are_all_combinations_with_typed_values():
    found = points("scoring.fraction=0.1,0.5", "features.degrees=1|1,3")
    assert [point.name for point in found] == ["0.1, 1", "0.1, 1,3", "0.5, 1", "0.5, 1,3"]
    assert found[1].config.scoring.fraction == 0.1
    assert found[1].config.features.degrees == (1, 3)
    assert [(point.values, point.config) for point in points()] == [({}, Config())]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("scoring.fractoin=1,2", "no setting 'scoring.fractoin'; did you mean 'scoring.fraction'"),
        ("scoring=1,2", "no setting 'scoring'"),
        ("scoring.fraction=many,2", "'many' is not a number"),
        ("metrics.defects_are_black=maybe,true", "'maybe' is neither true nor false"),
        ("scoring.fraction=0.1,-1", "config.scoring.fraction: -1.0 is below"),
        ("scoring.fraction=1,1", "give different values"),
        ("scoring.fraction", "give different values"),
        ("scoring.fraction=1,", "give different values"),
    ],
)
def test_invalid_points_are_refused(vary, message):
    with pytest.raises(ConfigError, match=message):
        points(vary)


def test_fixed_groups_and_repeated_fields_are_refused():
    with pytest.raises(ConfigError, match="data.root cannot be varied"):
        read_points(["data.root=a,b"], Config(), ("data",))
    with pytest.raises(ConfigError, match="is varied twice"):
        points("scoring.fraction=1,2", "scoring.fraction=3,4")


def test_halves_depend_on_number_and_name_alone():
    found = halves(11, 2, "bottle")
    assert list(found) == ["whole", "half 1", "half 2"] and len(found["whole"]) == 11
    assert all(len(set(half)) == 6 and (np.diff(half) > 0).all() for name, half in found.items() if name != "whole")
    assert not np.array_equal(found["half 1"], found["half 2"])
    np.testing.assert_array_equal(halves(11, 1, "bottle")["half 1"], found["half 1"])


def test_values_are_those_of_whole_sets_with_the_spread_of_halves():
    cells = {
        ("a", "whole"): {"image_auroc": 0.9}, ("b", "whole"): {"image_auroc": 0.7},
        ("a", "half 1"): {"image_auroc": 0.8}, ("b", "half 1"): {"image_auroc": 0.7},
        ("a", "half 2"): {"image_auroc": 0.9}, ("b", "half 2"): {"image_auroc": 0.8},
        ("a", "half 3"): {"image_auroc": 1.0},
    }  # fmt: skip
    sweep = swept({"standard": cells})
    value, spread = sweep.value(sweep.points[0], "image_auroc")
    assert value == pytest.approx(0.8)
    assert spread == pytest.approx(np.std([0.75, 0.85], ddof=1)), "half 3 lacks a group"
    assert sweep.table()[1] == [["standard", "80.0 ± 7.1"]]
    assert sweep.by_group("image_auroc")[1] == [["a", "90.0 ± 10.0"], ["b", "70.0 ± 7.1"]]


def test_values_of_seeds_are_their_means():
    cells = {("a", f"seed {i}"): {"image_auroc": 0.6 + 0.1 * i} for i in range(3)}
    sweep = swept({"standard": cells}, ("a",))
    assert sweep.value(sweep.points[0], "image_auroc") == (pytest.approx(0.7), pytest.approx(0.1))


def test_the_best_is_bold_and_fpr_is_best_where_it_is_low():
    rows = {"few": (0.6, 0.5), "standard": (0.9, 0.2), "fine": (0.9004, 0.3)}
    sweep = swept(
        {name: {("a", "whole"): {"image_auroc": a, "fpr95": b, "pixel_ap": None}} for name, (a, b) in rows.items()},
        ("a",),
        smaller_is_better=frozenset({"fpr95"}),
    )
    headings, cells, best = sweep.table()
    assert headings == ["scoring.score", "image AUROC", "FPR95"]
    assert best == [[False, False, False], [False, True, True], [False, True, False]]
    assert "| standard | **90.0** | **20.0** |" in sweep.markdown()
    assert r"standard & \textbf{90.0} & \textbf{20.0} \\" in sweep.latex()
    assert r"scoring.score & image AUROC & FPR95 \\" in sweep.latex()
    assert "*90.0" in sweep.text()


def test_differences_of_halves_have_the_spread_of_halves():
    first = {("a", r): {"pixel_ap": v} for r, v in zip(("whole", "half 1", "half 2"), (0.5, 0.4, 0.6))}
    other = {("a", r): {"pixel_ap": v} for r, v in zip(("whole", "half 1", "half 2"), (0.6, 0.48, 0.72))}
    sweep = swept({"standard": first, "few": other}, ("a",))
    found = sweep.difference(sweep.points[1], "pixel_ap")
    assert found.value == pytest.approx(0.1)
    assert found.high - found.value == pytest.approx(1.96 * np.std([0.08, 0.12], ddof=1))
    assert sweep.difference_rows() == [{"scoring.score": "few", "metric": "pixel_ap", **found._asdict()}]
    alike = {("a", r): {"pixel_ap": v} for r, v in zip(("whole", "half 1", "half 2"), (0.6, 0.4, 0.6))}
    sweep = swept({"standard": first, "few": alike}, ("a",))
    assert sweep.difference(sweep.points[1], "pixel_ap") is None


def test_differences_of_seeds_are_paired():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.3, 0.9, (4, 3))
    cells = [
        {(f"c{i}", f"seed {j}"): {"image_auroc": hard[i, j] + gain} for i in range(4) for j in range(3)}
        for gain in (0.0, 0.02)
    ]
    sweep = swept({"standard": cells[0], "few": cells[1]}, [f"c{i}" for i in range(4)])
    found = sweep.difference(sweep.points[1], "image_auroc")
    np.testing.assert_allclose(found, (0.02, 0.02, 0.02))


def scores(values):
    return {"part": LabelledScores(LABELS, np.asarray(values))}


def test_differences_of_image_auroc_are_resampled_over_images():
    rng = np.random.default_rng(1)
    base = rng.normal(size=40) + np.array(LABELS)
    better, alike = scores(base + 2 * np.array(LABELS)), scores(base + 0.01 * rng.normal(size=40))
    gain = auroc_difference(better, scores(base))
    assert 0 < gain.low < gain.value < gain.high
    assert gain.value == pytest.approx(-auroc_difference(scores(base), better).value)
    none = auroc_difference(alike, scores(base))
    assert none.low <= 0 <= none.high and none.high - none.low < 0.1
    assert not_significantly_worse(alike, scores(base)) and not not_significantly_worse(scores(base), better)
    unlabelled = {"part": LabelledScores([None] * 40, base)}
    assert auroc_difference(unlabelled, unlabelled) is None
    assert mean_difference([(1.0, 0.5)]) is None


def test_cells_are_kept_with_their_scores(tmp_path):
    store, identity = CellStore(tmp_path), {"settings": {"a": 1}, "repeat": "whole"}
    assert store.find(identity) is None
    cell = Cell({"a": "1"}, "part", "whole", {"image_auroc": 0.5, "pixel_ap": None}, 40, 1.5, scores(range(40))["part"])
    store.keep(identity, cell)
    found = store.find(identity)
    assert (found.values, found.metrics, found.images) == (cell.values, cell.metrics, 40)
    assert found.scores.labels == LABELS and found.scores.values.tolist() == list(range(40))
    assert store.find(identity | {"repeat": "half 1"}) is None
    (path,) = store.root.glob("*.json")
    path.write_text(path.read_text()[:-9])
    assert store.find(identity) is None, "a damaged cell is computed again"


def test_work_is_claimed_by_one_process(tmp_path):
    one, other = CellStore(tmp_path), CellStore(tmp_path)
    with one.claimed("bottle") as mine, other.claimed("bottle") as theirs, other.claimed("cable") as free:
        assert (mine, theirs, free) == (True, False, True)
    with other.claimed("bottle") as mine:
        assert mine


def test_files_can_be_read(tmp_path):
    cells = {("a", "whole"): {"image_auroc": 0.5, "pixel_ap": None}, ("b", "whole"): {"image_auroc": 1.0}}
    sweep = swept({"standard": cells, "few": cells}, missing=2, problems={"fine": "no weights"})
    sweep.write(tmp_path)
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert lines[0] == "scoring.score,group,repeat,image_auroc,pixel_ap,images,seconds"
    assert lines[1:3] == ["standard,a,whole,0.5,,,", "standard,b,whole,1.0,,,"]
    text = (tmp_path / "table.md").read_text()
    assert "fine: no weights" in text and "Unfinished cells: 2." in text and "| b | 100.0 | 100.0 |" in text
    assert "no weights" in sweep.text() and "unfinished cells: 2;" in sweep.text()
    assert json.loads((tmp_path / ".written.json").read_text())


def test_a_frame_needs_pandas():
    cells = {("a", "whole"): {"image_auroc": 0.5}}
    sweep = swept({"standard": cells}, ("a",))
    try:
        import pandas as pd
    except ImportError:
        with pytest.raises(UserError, match="needs the package pandas"):
            sweep.to_frame()
    else:
        pd.testing.assert_frame_equal(sweep.to_frame(), pd.DataFrame(sweep.rows()))
