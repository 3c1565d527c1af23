"""Drift: the stated rate of false alarms whatever the law of the figures, and changes that are noticed."""

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.line.drift import SLACK, Drift, limit_of
from codegraph_jax.line.statistics import PICTURE, picture_statistics

FIGURES = ("score", *PICTURE)


def run(drift: Drift, values: list[dict[str, float]], first: int = 1) -> list[tuple[int, str]]:
    """(part, subject) of all alarms."""
    raised = []
    for part, own in enumerate(values, first):
        alarms = drift.update(part, own)
        raised += [(part, alarm.subject) for alarm in alarms]
        if alarms:
            after = min(drift.changed_after(alarm.subject) for alarm in alarms)
            recent = [(p, v) for p, v in enumerate(values, first) if after < p <= part]
            drift.restart([alarm.subject for alarm in alarms], recent)
    return raised


def test_the_limit_gives_the_stated_run_of_a_cumulative_sum():
    rng = np.random.default_rng(0)
    limit, runs = limit_of(300), []
    for _ in range(400):
        total = part = 0
        while total <= limit:
            total, part = max(0.0, total + rng.normal() - SLACK), part + 1
        runs.append(part)
    assert np.mean(runs) == pytest.approx(300, rel=0.15)


@pytest.mark.parametrize("law", ["normal", "heavy", "few values"])
def test_ranks_are_standard_normal_numbers_whatever_the_law(law):
    rng = np.random.default_rng(1)
    drawn = {
        "normal": rng.normal(size=3000), "heavy": rng.standard_cauchy(3000), "few values": rng.integers(0, 3, 3000),
    }[law]  # fmt: skip
    chart = Drift(["score"], 10_000, {}).charts["score"]
    numbers = np.array([chart.learn(float(value)) for value in drawn])
    assert abs(numbers.mean()) < 0.06 and numbers.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.06


@pytest.mark.slow
def test_twenty_weeks_without_change_raise_no_more_alarms_than_stated():
    raised = 0
    for week in range(20):
        rng = np.random.default_rng(week)
        drift = Drift(FIGURES, 10_000, {"score": rng.gumbel(size=60)})
        values = [{f: float(rng.gumbel() if f == "score" else rng.standard_t(4)) for f in FIGURES} for _ in range(5000)]
        raised += len(run(drift, values))
    assert raised <= 10  # 20 * 5,000 parts, one alarm in 10,000


@pytest.fixture(scope="module")
def parts():
    return list(draw_set(90, 112, 5, 0.0, ()).images)


def figures(images) -> list[dict[str, float]]:
    return [picture_statistics(Image.fromarray(image)) for image in images]


def test_darker_light_and_a_shifted_camera_are_noticed_within_fifty_parts(parts):
    rng = np.random.default_rng(2)
    good = figures(parts)
    before = [good[i] | {"score": float(rng.normal())} for i in rng.integers(0, len(good), 300)]
    changes = {
        "brightness": [(image * 0.95).astype(np.uint8) for image in parts],
        "left": [np.roll(image, 2, axis=1) for image in parts],
        "score": parts,
    }
    for subject, changed in changes.items():
        drift = Drift(FIGURES, 10_000, {"score": rng.normal(size=60)})
        assert not run(drift, before)
        new = figures(changed)
        shift = 1.5 if subject == "score" else 0.0  # a harmless variant scores higher than the usual part
        after = [new[i] | {"score": float(rng.normal() + shift)} for i in rng.integers(0, len(new), 50)]
        raised = run(drift, after, 301)
        assert subject in {name for _, name in raised}, subject
        assert {name for _, name in raised} <= {subject, "sharpness"}, raised


def test_one_change_is_one_alarm_and_its_message_says_what_and_since_when():
    rng = np.random.default_rng(3)
    drift = Drift(["brightness"], 10_000, {})
    values = [{"brightness": float(rng.normal() - 2 * (part > 200))} for part in range(1, 1200)]
    raised = run(drift, values)
    assert len(raised) == 1 and 200 < raised[0][0] < 230
    alarm = Drift(["brightness"], 10_000, {})
    for part, value in enumerate(values, 1):
        if alarms := alarm.update(part, value):
            break
    assert alarms[0].kind == "drift" and "darker" in alarms[0].message
    assert 190 <= alarm.changed_after("brightness") <= 210


def test_the_set_teaches_what_scores_are_usual():
    rng = np.random.default_rng(4)
    values = [{"score": float(rng.normal() + 3)} for _ in range(25)]
    assert run(Drift(["score"], 10_000, {"score": rng.normal(size=80)}), values)
    assert not run(Drift(["score"], 10_000, {}), values)


def test_a_restart_goes_on_where_it_was():
    rng = np.random.default_rng(5)
    values = [{"score": float(rng.normal() + (part > 150))} for part in range(1, 190)]
    taught = {"score": rng.normal(size=40)}
    whole = Drift(["score"], 1000, taught)
    first = run(whole, values)
    assert first
    cut = Drift(["score"], 1000, taught)
    raised = run(cut, values[:100])
    state = cut.state()
    again = Drift(["score"], 1000, taught, state, list(enumerate(values[:100], 1)))
    raised += run(again, values[100:], 101)
    assert raised[:1] == first[:1]
    assert again.charts["score"].up == pytest.approx(whole.charts["score"].up)


def test_figures_of_pictures_say_what_they_are_called():
    image = np.full((60, 80, 3), 100, np.uint8)
    image[20:30, 50:60] = 250
    plain = picture_statistics(Image.fromarray(image))
    assert plain["brightness"] == pytest.approx(100 / 255 + 150 / 255 * 100 / 4800, abs=1e-3)
    assert plain["left"] == pytest.approx(55 / 80, abs=0.01) and plain["top"] == pytest.approx(25 / 60, abs=0.01)
    blurred = picture_statistics(Image.fromarray(image).resize((40, 30)).resize((80, 60)))
    assert blurred["sharpness"] < plain["sharpness"]
    flat = picture_statistics(Image.new("L", (3, 2), 7))
    assert flat["left"] == pytest.approx(0.5) and np.isfinite(list(flat.values())).all()
