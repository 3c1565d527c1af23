"""Drift: the rate of false alarms under several distributions, and the detection of changes."""

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.line.drift import Drift
from codegraph_jax.line.statistics import PICTURE_STATISTICS, picture_statistics

FIGURES = ("score", *PICTURE_STATISTICS)


class Charts(Drift):
    """The charts of a line that records its parts in memory."""

    def __init__(self, *arguments, parts=()):
        self.parts = list(parts)
        super().__init__(*arguments, passed=lambda after: [one for one in self.parts if one[0] > after])


def run(drift: Charts, values: list[dict[str, float]], first: int = 1) -> list[tuple[int, str]]:
    """(part, subject) of all alarms."""
    raised = []
    for part, own in enumerate(values, first):
        raised += [(part, alarm.subject) for alarm in drift.update(part, own)]
        drift.parts.append((part, own))
    return raised


@pytest.mark.parametrize("law", ["normal", "heavy", "few values"])
def test_ranks_are_standard_normal_for_any_distribution(law):
    rng = np.random.default_rng(1)
    drawn = {
        "normal": rng.normal(size=3000), "heavy": rng.standard_cauchy(3000), "few values": rng.integers(0, 3, 3000),
    }[law]  # fmt: skip
    chart = Charts(["score"], 10_000, {}).charts["score"]
    numbers = np.array([chart.add(float(value)) for value in drawn])
    assert abs(numbers.mean()) < 0.06 and numbers.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.06


@pytest.mark.slow
def test_twenty_weeks_without_change_raise_no_more_alarms_than_stated():
    raised = 0
    for week in range(20):
        rng = np.random.default_rng(week)
        drift = Charts(FIGURES, 10_000, {"score": rng.gumbel(size=60)})
        values = [{f: float(rng.gumbel() if f == "score" else rng.standard_t(4)) for f in FIGURES} for _ in range(5000)]
        raised += len(run(drift, values))
    assert raised <= 10  # 20 * 5,000 parts, one alarm in 10,000


def series(rng: np.random.Generator, n: int, correlation: float = 0, amplitude: float = 0, period: int = 500):
    """A figure with autocorrelation and a cycle, both in standard deviations of the rest."""
    noise = rng.normal(size=n) * np.sqrt(1 - correlation**2)
    values = np.zeros(n)
    for part in range(n):
        values[part] = correlation * values[part - 1] * (part > 0) + noise[part]
    return values + amplitude * np.sin(2 * np.pi * (np.arange(n) / period + rng.uniform()))


@pytest.mark.parametrize(
    "kind",
    [{"correlation": 0.3}, {"correlation": 0.6}, {"amplitude": 0.5, "period": 2000}, {"amplitude": 1.0, "period": 500}],
    ids=str,
)
def test_neighbours_and_daily_cycles_raise_no_more_alarms_than_stated(kind):
    # cumulative sums of independent numbers raised one alarm in 28 to 340 parts here
    raised = 0
    for seed in range(2):
        values = series(np.random.default_rng(seed), 3000, **kind)
        raised += len(run(Charts(FIGURES, 10_000, {}), [{"score": float(value)} for value in values]))
    assert raised <= 1


@pytest.mark.parametrize(
    ("kind", "shift", "within"),
    [({}, 1.0, 100), ({"correlation": 0.3}, 1.5, 100), ({"amplitude": 0.5, "period": 500}, 2.0, 100)],
    ids=str,
)
def test_changes_are_noticed_all_the_same(kind, shift, within):
    late = 0
    for seed in range(5):
        values = series(np.random.default_rng(50 + seed), 1000 + within, **kind) + shift * (
            np.arange(1000 + within) >= 1000
        )
        raised = run(Charts(["score"], 10_000, {}), [{"score": float(value)} for value in values])
        late += not any(part > 1000 for part, _ in raised)
    assert late <= 1


def test_an_accepted_change_raises_no_further_alarm():
    rng = np.random.default_rng(8)
    batches = np.repeat([0.0, 3.0] * 6, 150)[:1500]
    values = [{"brightness": float(value)} for value in batches + rng.normal(size=1500)]
    first = [part for part, _ in run(Charts(["brightness"], 1000, {}), values)]
    assert len(first) >= 2 and 150 < first[0] < 180
    drift = Charts(["brightness"], 1000, {})
    run(drift, values[: first[0]])
    drift.accept("brightness", first[0])
    assert drift.charts["brightness"].ignored_up_to == 0
    again = Charts(["brightness"], 1000, {}, drift.state(), parts=drift.parts)
    assert not run(drift, values[first[0] :], first[0] + 1)
    assert not run(again, values[first[0] :], first[0] + 1), "after a restart too"
    # a larger change than the accepted one raises an alarm
    assert run(drift, [{"brightness": float(rng.normal() - 4)} for _ in range(60)], 1501)


@pytest.fixture(scope="module")
def parts():
    return list(draw_set(90, 112, 5, 0.0, ()).images)


def figures(images) -> list[dict[str, float]]:
    return [picture_statistics(Image.fromarray(image)) for image in images]


def test_darker_light_and_a_shifted_camera_are_noticed_within_fifty_parts(parts):
    # after a thousand parts: a shift by 0.9 standard deviations (darker light) needs good estimates of the usual values
    rng = np.random.default_rng(2)
    good = figures(parts)
    before = [good[i] | {"score": float(rng.normal())} for i in rng.integers(0, len(good), 1000)]
    changes = {
        "brightness": [(image * 0.95).astype(np.uint8) for image in parts],
        "left": [np.roll(image, 2, axis=1) for image in parts],
        "score": parts,
    }
    for subject, changed in changes.items():
        drift = Charts(FIGURES, 10_000, {"score": rng.normal(size=60)})
        assert not run(drift, before)
        new = figures(changed)
        shift = 1.5 if subject == "score" else 0.0  # a harmless variant has higher scores than usual parts
        after = [new[i] | {"score": float(rng.normal() + shift)} for i in rng.integers(0, len(new), 50)]
        raised = run(drift, after, 1001)
        assert subject in {name for _, name in raised}, subject
        assert {name for _, name in raised} <= {subject, "sharpness"}, raised


def test_one_change_is_one_alarm_with_figure_and_beginning():
    rng = np.random.default_rng(3)
    drift = Charts(["brightness"], 10_000, {})
    values = [{"brightness": float(rng.normal() - 2 * (part > 200))} for part in range(1, 1200)]
    raised = run(drift, values)
    assert len(raised) == 1 and 200 < raised[0][0] < 230
    alarm = Charts(["brightness"], 10_000, {})
    for part, value in enumerate(values, 1):
        if alarms := alarm.update(part, value):
            break
    assert alarms[0].kind == "drift" and "darker" in alarms[0].message
    assert 190 <= alarm.charts["brightness"].changed_after <= 210


def test_scores_are_compared_with_those_of_the_set():
    rng = np.random.default_rng(4)
    values = [{"score": float(rng.normal() + 3)} for _ in range(25)]
    assert run(Charts(["score"], 10_000, {"score": rng.normal(size=80)}), values)
    assert not run(Charts(["score"], 10_000, {}), values)


def test_restart_continues():
    rng = np.random.default_rng(5)
    values = [{"score": float(rng.normal() + (part > 150))} for part in range(1, 190)]
    set_values = {"score": rng.normal(size=40)}
    whole = Charts(["score"], 1000, set_values)
    first = run(whole, values)
    assert first
    cut = Charts(["score"], 1000, set_values)
    raised = run(cut, values[:100])
    state = cut.state()
    again = Charts(["score"], 1000, set_values, state, parts=cut.parts)
    raised += run(again, values[100:], 101)
    assert raised[:1] == first[:1]
    assert again.charts["score"].state() == whole.charts["score"].state()


def test_photo_statistics_measure_brightness_position_and_sharpness():
    image = np.full((60, 80, 3), 100, np.uint8)
    image[20:30, 50:60] = 250
    plain = picture_statistics(Image.fromarray(image))
    assert plain["brightness"] == pytest.approx(100 / 255 + 150 / 255 * 100 / 4800, abs=1e-3)
    assert plain["left"] == pytest.approx(55 / 80, abs=0.01) and plain["top"] == pytest.approx(25 / 60, abs=0.01)
    blurred = picture_statistics(Image.fromarray(image).resize((40, 30)).resize((80, 60)))
    assert blurred["sharpness"] < plain["sharpness"]
    flat = picture_statistics(Image.new("L", (3, 2), 7))
    assert flat["left"] == pytest.approx(0.5) and np.isfinite(list(flat.values())).all()
