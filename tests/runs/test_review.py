"""A person's verdicts, end to end: a run, a verdict in its report, the next run, and a bank."""

import csv
import dataclasses
import json
import time

import numpy as np
import pytest

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import (
    BankConfig,
    DataConfig,
    InspectConfig,
    PhotosConfig,
    SavedBankConfig,
    ScoringConfig,
)
from codegraph_jax.consistency.groups import Evidence, Group
from codegraph_jax.consistency.review import Review, ReviewError
from codegraph_jax.data.synthetic import draw_set, write_set
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks import inspect as inspect_task
from tests.support.browser import Browser, find_browser
from tests.support.networks import random_config
from tests.support.planted import plant_group

pytestmark = pytest.mark.usefixtures("shallow")

MEMBERS = (0, 1, 2, 3, 4)
NAME = '<b>imprint</b> "x"'


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("review")
    write_set(draw_set(20, 56, 3, 0.2, (0.25,)), root / "part")
    return root


@pytest.fixture
def config(photos):
    return random_config(
        data=DataConfig(layout="mvtec", root=str(photos)),
        scoring=ScoringConfig(rescore=False),
        resume_data="keep",
    )


@pytest.fixture(autouse=True)
def group(monkeypatch):
    """The first images share a pattern in their first patches, which the rule leaves undecided."""
    plant_group(monkeypatch, Group(MEMBERS, 5.0, 0.005, (), "undecided", Evidence(0.3, 1.0, 1.5, 1.0)), np.s_[:2, :2])


def run(config, workdir):
    (outcome,) = detect_task.run(config, str(workdir))
    return outcome.result, json.loads((workdir / "groups.json").read_text())["part"]


def test_decisions_in_the_report_apply_to_the_next_run(config, tmp_path, monkeypatch, capsys):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    before, (entry,) = run(config, tmp_path / "run")
    assert (entry["verdict"], entry["name"], entry["reviewed"]) == ("undecided", "", False)
    assert "group 1 (defect or variant?): 5 of 20" in capsys.readouterr().out
    assert not before.recurring.defect_patches.any()

    browser = Browser(program)
    try:
        browser.open(tmp_path / "run" / "report.html")
        browser.click("form[data-pattern] input[value=defect]")
        browser.evaluate(f"document.querySelector('form[data-pattern]').elements.name.value = {json.dumps(NAME)}")
        browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        browser.click("#save-review")
        review = tmp_path / "review.json"
        for _ in range(100):
            if review.is_file():
                break
            time.sleep(0.05)
        assert browser.problems == []

        def forward(*_):
            raise AssertionError("the backbone runs again")

        monkeypatch.setattr(Extractor, "forward", forward)
        again = dataclasses.replace(config, review=str(review))
        after, (entry,) = run(again, tmp_path / "run")
        printed = capsys.readouterr().out
        assert "features of 20 of 20 photos, distances of 2 of 2 layers" in printed
        assert f"{NAME} (defect): {len(entry['members'])} of 20\n" in printed, (
            "a run on the same photos has no previous batch"
        )
        assert (entry["verdict"], entry["name"], entry["reviewed"]) == ("defect", NAME, True)
        assert entry["previous_batch"] is None
        (pattern,) = Review.load(str(tmp_path / "run" / "review.json")).patterns
        assert (pattern.name, pattern.member_count, pattern.image_count) == (NAME, 5, 20), "for the next batch"
        assert after.flagged[list(MEMBERS)].all(), "members of a defect are flagged"
        assert after.recurring.defect_patches.any() and (after.patch_scores != before.patch_scores).any()

        browser.open(tmp_path / "run" / "report.html")
        assert browser.problems == []
        chosen = browser.evaluate(
            "(f => [f.elements.verdict.value, f.elements.name.value])(document.querySelector('form[data-pattern]'))"
        )
        assert chosen == ["defect", NAME]
        assert browser.text("#answer-count") == "So far: 1 group."
        assert browser.evaluate("document.querySelectorAll('.group b').length") == 0
    finally:
        browser.close()
    rows = list(csv.DictReader((tmp_path / "run" / "scores.csv").open()))
    assert sum(row["group"] == "1" for row in rows) == len(entry["members"])


def test_eight_keys_give_the_verdicts_of_the_next_run(config, tmp_path):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    run(config, tmp_path / "run")
    said = "[...document.querySelectorAll('#table tbody tr')].map(row => [row.dataset.number, row.className])"
    browser = Browser(program)
    try:
        browser.view(1200, 900)
        browser.open(tmp_path / "run" / "report.html")
        title = browser.evaluate("document.title")
        for _ in range(8):
            name = browser.text("#look-name")
            browser.press("g" if "good" in name else "d")
        assert browser.evaluate("document.title") != title
        promised = dict(browser.evaluate(f"new Promise(done => setTimeout(() => done({said}), 50))"))
        browser.click("#copy-review")
        browser.evaluate("new Promise(done => setTimeout(done, 50))")
        (tmp_path / "review (1).json").write_text(browser.evaluate("document.querySelector('#review-text').value"))
        # the run finds the file in the directory where the browser has saved it
        result, _ = run(dataclasses.replace(config, review=str(tmp_path)), tmp_path / "run")
        marked = result.flagged != (result.scores_by_name[result.score_name] >= result.calibration.threshold)
        answered = np.isin(result.keys, list(result.answers.photos))
        assert len(result.answers.photos) == 8
        for number, flag in enumerate(result.flagged):
            # marks of answered photos are recognised in others, which the page cannot compute
            if answered[number] or not marked[number]:
                assert (promised[str(number)] == "flagged") == flag, number
        browser.open(tmp_path / "run" / "report.html")
        again = dict(browser.evaluate(said))
        assert {int(n) for n, kind in again.items() if kind == "flagged"} == set(np.flatnonzero(result.flagged))
        assert browser.text("#answer-count").startswith("So far: 8 photos.")
        assert browser.problems == []
    finally:
        browser.close()


def test_a_comparison_can_be_scored_again_with_a_review(config, photos):
    detector = detect_task.CoDeGraph(config)
    paths = sorted(str(path) for path in (photos / "part" / "test").rglob("*.png"))
    comparison = detector.compare(paths)
    result = detector.score(comparison)
    variant = detector.score(comparison, review=result.review(patterns={1: ("variant", "imprint")}))
    assert [group.verdict for group in variant.recurring.groups] == ["variant"]
    assert (variant.patch_scores <= result.patch_scores).all()
    assert variant.recurring.pattern_numbers.any() and not variant.recurring.defect_patches.any()
    # an unchanged verdict is kept, with the counts of this batch
    (kept,) = variant.review().patterns
    assert (kept.name, kept.verdict, kept.image_count) == ("imprint", "variant", 20)
    undone = detector.score(comparison, review=variant.review(patterns={1: "undecided"}))
    np.testing.assert_array_equal(undone.patch_scores, result.patch_scores)
    for number in (0, 2):
        with pytest.raises(KeyError, match=f"no pattern {number}: the numbers are 1 to 1"):
            result.review(patterns={number: "defect"})
    with pytest.raises(ValueError, match="verdict: 'harmless' is none of"):
        result.review(patterns={1: "harmless"})
    elsewhere = detect_task.CoDeGraph(
        dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, blocks=(3,)))
    )
    with pytest.raises(ReviewError, match="blocks"):
        elsewhere.detect(paths, review=variant.review())


def test_review_of_other_features_or_product_is_reported(config, tmp_path, capsys):
    result, _ = run(config, tmp_path / "run")
    review = result.review(patterns={1: "variant"})
    pattern = review.patterns[0]
    path = str(tmp_path / "review.json")
    Review({**review.feature_identity, "image_size": 112}, review.patterns).save(path)
    with pytest.raises(ReviewError, match=r"review.json: was made with other features \(image_size is 112"):
        run(dataclasses.replace(config, review=path), tmp_path / "run")
    strange = dataclasses.replace(pattern.product, mean=-pattern.product.mean)
    Review(review.feature_identity, (dataclasses.replace(pattern, product=strange),)).save(path)
    capsys.readouterr()
    after, (entry,) = run(dataclasses.replace(config, review=path), tmp_path / "run")
    assert f"{path}: none of its patterns belongs to the product in part" in capsys.readouterr().out
    assert entry["verdict"] == "undecided"
    assert len(after.review().patterns) == 1, "the pattern is passed on"


def test_the_bank_recognises_recurring_patterns(config, photos, tmp_path, capsys):
    result, _ = run(config, tmp_path / "run")
    review = tmp_path / "review.json"
    result.review(patterns={1: ("variant", "imprint")}).save(str(review))
    bank = tmp_path / "parts.safetensors"
    run(dataclasses.replace(config, review=str(review), bank=BankConfig(save=str(bank))), tmp_path / "run")
    (pattern,) = ReferenceBank.load(str(bank)).patterns
    assert (pattern.name, pattern.verdict, pattern.image_count) == ("imprint", "variant", 20)
    capsys.readouterr()
    data = PhotosConfig(layout="mvtec", root=str(photos))
    config = InspectConfig(bank=SavedBankConfig(path=str(bank)), data=data)
    (outcome,) = inspect_task.run(config, str(tmp_path / "inspected"))
    (match,) = outcome.result.recurring.matches
    line = f"imprint (variant): {len(match.images)} of 20, previous batch {pattern.member_count} of 20"
    assert line in capsys.readouterr().out
    assert len(set(match.images) & set(MEMBERS)) >= 3
    shown = outcome.result.recurring.pattern_numbers == 1
    scores = outcome.result.patch_scores
    assert all((scores[i][shown[i]] <= np.quantile(scores[i], 0.75)).all() for i in match.images)
