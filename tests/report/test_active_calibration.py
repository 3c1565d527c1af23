"""The model of answers gives the same values in the browser and in Python."""

import json
from importlib.resources import files
from typing import get_args

import numpy as np
import pytest

from codegraph_jax.scoring import photo_verdicts as rules
from codegraph_jax.scoring.active_calibration import ActiveCalibrator
from codegraph_jax.scoring.threshold import MIN_PHOTOS
from tests.support.browser import Browser

SOURCE = files("codegraph_jax.report").joinpath("active_calibration.js").read_text(encoding="utf-8")
OUTCOME = """
  const count = (c) => [c.expected, c.low, c.high, c.total];
  const outcome = (model) => {
    const { falseAlarms, misses } = model.estimate(), { photo, enough } = model.suggest();
    return {
      information: [...model.information()], photo, enough,
      probabilities: model.scoreProbabilities, chosen: model.scoreName,
      defective: [...model.defectProbabilities()], threshold: model.threshold === Infinity ? null : model.threshold,
      flagged: model.flagged(), estimate: [count(falseAlarms), count(misses)],
    };
  };"""


def in_browser(browser: Browser, body: str, **values: object):
    """The value of a function body that uses the model and these values."""
    return browser.evaluate(f"(({', '.join(values)}) => {{ {SOURCE} {OUTCOME} {body} }})"
                            f"({', '.join(json.dumps(value) for value in values.values())})")  # fmt: skip


def random_calibrator(seed: int, **settings: object) -> ActiveCalibrator:
    rng = np.random.default_rng(seed)
    photos = int(rng.integers(1, 90))
    bad = rng.random(photos) < rng.uniform(0, 0.7)
    names = ["first", "second", "third"][: rng.integers(1, 4)]
    scores = {name: np.round(rng.normal(bad * rng.uniform(0, 4), 1), int(rng.integers(1, 9))) for name in names}
    return ActiveCalibrator(
        scores,
        set_size=int(rng.integers(max(1, photos // 2), photos + 1)),
        same_part=rng.integers(0, photos, photos),
        always_flagged=rng.random(photos) < 0.1,
        threshold=float(rng.choice([np.inf, 1.0, 3.0])),
        **settings,  # type: ignore[arg-type]
    )


def answer_at_random(calibrator: ActiveCalibrator, rng: np.random.Generator) -> None:
    for photo in rng.permutation(calibrator.photo_count)[: rng.integers(0, 12)]:
        calibrator.answer(int(photo), ["defective", "good", "unsure"][rng.integers(3)])


def assert_same_calibration(found: dict, calibrator: ActiveCalibrator) -> None:
    information = calibrator.information()
    np.testing.assert_allclose(found["information"], information, rtol=0, atol=1e-9)
    probabilities = calibrator.score_probabilities
    np.testing.assert_allclose(list(found["probabilities"].values()), list(probabilities.values()), atol=1e-9)
    assert list(found["probabilities"]) == list(probabilities) and found["chosen"] == calibrator.score_name
    np.testing.assert_allclose(found["defective"], calibrator.defect_probabilities, atol=1e-9)
    assert found["threshold"] == (None if np.isinf(calibrator.threshold) else calibrator.threshold)
    assert found["flagged"] == calibrator.flagged.tolist()
    for mine, count in zip(found["estimate"], (calibrator.estimate.false_alarms, calibrator.estimate.misses)):
        np.testing.assert_allclose(mine, (count.expected, count.low, count.high, count.total), rtol=0, atol=1e-9)
    # equal photos are equally informative up to the last bit
    suggested = calibrator.suggest()
    if suggested is None:
        assert found["enough"] or found["photo"] is None
    else:
        assert not found["enough"] and abs(information[found["photo"]] - information[suggested]) < 1e-9


@pytest.mark.parametrize("max_defective", [1.0, 0.5, 0.2, 0.05])
def test_the_browser_computes_the_values_of_python(browser, max_defective):
    calibrators = []
    for seed in range(12):
        calibrator = random_calibrator(seed, max_defective=max_defective)
        answer_at_random(calibrator, np.random.default_rng(seed))
        calibrators.append(calibrator)
    given = [calibrator.as_json() for calibrator in calibrators]
    script = "return sets.map((set) => outcome(new ActiveCalibrator(set)))"
    for found, calibrator in zip(in_browser(browser, script, sets=given), calibrators):
        assert_same_calibration(found, calibrator)


def test_answers_in_the_browser_have_the_effect_that_they_have_in_python(browser):
    calibrator = random_calibrator(5)
    given = calibrator.as_json()
    answer_at_random(calibrator, np.random.default_rng(1))
    calibrator.answer(0, "defective")
    calibrator.answer(1, "defective")
    answers = list(calibrator.answers.items())
    calibrator.remove_answer(0)
    found = in_browser(
        browser,
        "const model = new ActiveCalibrator(set); for (const [photo, answer] of answers) model.answer(photo, answer);"
        "model.suggest(); model.removeAnswer(0); return outcome(model);",
        set=given,
        answers=answers,
    )
    assert_same_calibration(found, calibrator)


def test_a_share_that_is_chosen_in_the_browser_cuts_the_grid_as_python_does(browser):
    given = random_calibrator(7).as_json()
    calibrator = random_calibrator(7, max_defective=0.2)
    for photo in (0, 1, 2):
        calibrator.answer(photo, "defective" if photo == 1 else "good")
    found = in_browser(
        browser,
        "const model = new ActiveCalibrator(set); model.maxDefective = 0.05; model.answer(0, 'good');"
        "model.answer(1, 'defective'); model.answer(2, 'good'); model.suggest();"
        "model.maxDefective = 0.2; return outcome(model);",
        set=given,
    )
    assert_same_calibration(found, calibrator)


def test_verdicts_in_the_browser_are_those_of_python(browser):
    cases, expected = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 30))
        scores = np.round(rng.normal(0, 1, n), 1)
        flagged, good = scores > 1, (rng.random(n) < 0.1) & (scores <= 1)
        p_values, defective = rng.random(n) ** 3, rng.random(n) if seed % 2 else None
        given = {"always_passed": good, "defect_probabilities": defective, "enough_photos": n >= MIN_PHOTOS}
        expected.append(rules.verdicts_of(flagged, scores, p_values, **given))
        given |= {"flagged": flagged, "scores": scores, "p_values": p_values}
        cases.append({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in given.items()})
    limits = {"p_value": rules.CHECK_P_VALUE, "probability": rules.CHECK_PROBABILITY, "fewest": rules.PHOTOS_TO_CHECK}
    found = in_browser(
        browser, "return cases.map((set) => ActiveCalibrator.verdicts(set, limits))", cases=cases, limits=limits
    )
    assert found == expected
    assert {verdict for listed in expected for verdict in listed} == set(get_args(rules.PhotoVerdict))


def test_a_large_set_is_answered_fast(browser):
    rng = np.random.default_rng(0)
    bad = rng.random(5000) < 0.3
    given = ActiveCalibrator({f"s{k}": rng.normal(2 * bad, 1) for k in range(6)}).as_json()
    browser.evaluate(f"{SOURCE}; var model = new ActiveCalibrator({json.dumps(given)}); model.suggest().enough")
    answer = "model.answer(model.suggest().photo, {}); model.suggest(); model.flagged(); model.estimate().misses.high"
    times = [browser.busy(answer.format(label)) for label in ("'defective'", "'good'") * 3]
    assert sorted(times)[3] < 0.1
