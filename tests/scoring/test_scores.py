"""Scores that the user chooses by name, or implements."""

import numpy as np
import pytest

from codegraph_jax import CoDeGraph
from codegraph_jax.config import BankConfig, Config
from codegraph_jax.consistency.filtered_scores import filtered_scores
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.user_code import user_code_digest
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.scoring.maps import mean_of_highest
from codegraph_jax.scoring.rescoring import rescore_by_peaks
from codegraph_jax.scoring.scores import ANSWER_SCORES, NAMED_SCORES, SETTING, Score, relative, score_of
from codegraph_jax.similarity.host_tables import PatchScoreError, mean_of_smallest, patch_scores
from codegraph_jax.similarity.references import ReferenceSubset
from codegraph_jax.similarity.removal import Exclusions
from tests.support import planted
from tests.support.networks import random_backbone


def smallest(distances, k):
    """The mean of the K smallest distances, as a user's function."""
    return np.sort(distances, axis=0)[:k].mean(axis=0)


@pytest.fixture(scope="module")
def images():
    return list(draw_set(8, 56, 1, 0.2, (0.3,)).images)


@pytest.fixture(scope="module")
def detector(shallow):
    return CoDeGraph(Config(backbone=random_backbone()))


@pytest.fixture(scope="module")
def comparison(detector, images):
    return detector.compare(images)


@pytest.mark.parametrize("seed", range(2))
def test_a_score_without_references_is_that_of_filtered_tables(seed):
    comparison, exclusions = (
        planted.compare(planted.draw(14, group=5, one_off=2, seed=seed)),
        planted.draw_exclusions(14, seed),
    )
    subset = ReferenceSubset(np.array([0, 3, 4, 9]), 3)
    want = filtered_scores(comparison, subset, exclusions)

    def mine(distances, k):
        assert not np.isinf(distances).all(axis=1).any(), "references that are excluded everywhere are left out"
        return mean_of_smallest(distances, k)

    before = comparison.tables.scores(subset, Exclusions.none(comparison.shape), mine)
    for own, usual in zip(before, comparison.tables.scores(subset, Exclusions.none(comparison.shape))):
        np.testing.assert_allclose(own, usual, atol=1e-6)
    got = comparison.tables.scores(subset, exclusions, mine)[0].mean(axis=0)
    np.testing.assert_allclose(np.where(exclusions.clipped, want, got), want, atol=1e-6)


def test_a_function_is_a_score(detector, comparison):
    standard, mine = detector.score(comparison), detector.score(comparison, score=smallest)
    np.testing.assert_allclose(mine.patch_scores, standard.patch_scores, atol=1e-6)
    np.testing.assert_allclose(mine.scores_rescored, standard.scores_rescored, atol=1e-5)
    assert (standard.score_name, mine.score_name) == ("standard", "smallest")
    assert next(iter(mine.scores_by_name)) == "smallest" and "standard" in mine.scores_by_name
    assert mine.calibrator().score_name == "smallest"
    farther = detector.score(comparison, score=lambda distances, k: distances.max(axis=0))
    assert (farther.patch_scores >= standard.patch_scores).all() and farther.score_name == "own"


def test_a_detector_with_a_score_uses_it(detector, comparison, images, shallow):
    own = CoDeGraph(backbone=detector.backbone, image_size=56, score=smallest)
    np.testing.assert_allclose(
        own.detect(images).scores_rescored, detector.score(comparison).scores_rescored, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMED_SCORES)
def test_named_scores_differ_and_are_finite(detector, comparison, name):
    standard, result = detector.score(comparison), detector.score(comparison, score=name)
    assert np.isfinite(result.scores_rescored).all() and np.isfinite(result.patch_scores).all()
    assert result.score_name == name and result.scores_by_name.keys() >= {s.name for s in ANSWER_SCORES}
    assert np.array_equal(result.scores_rescored, standard.scores_rescored) == (name == "standard")


def test_the_error_for_an_unknown_name_lists_scores():
    with pytest.raises(ConfigError, match=r"config.scoring.score: no score is called 'nearst'; did you mean 'nearest'"):
        score_of("nearst")
    with pytest.raises(ConfigError, match=r"no score is called 'x'; scores: standard, .*FILE.py:NAME"):
        score_of("x")


def test_parts_of_a_variant_are_used(detector, comparison):
    seen = []

    def again(scores, given, maps):
        seen.append((given is comparison, maps.shape))
        return scores + 1

    mine = Score("mine", image_score=lambda anomaly_map: float(anomaly_map.mean()), rescoring=again)
    result = detector.score(comparison, score=mine)
    np.testing.assert_allclose(result.scores, result.maps().mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(result.scores_rescored, result.scores + 1)
    assert seen == [(True, (8, 4, 4))]


def test_a_score_in_a_file(tmp_path, monkeypatch, detector, comparison):
    path = tmp_path / "ideas.py"
    path.write_text("import numpy as np\ndef mine(distances, k):\n    return np.median(distances, axis=0)\n")
    found = detector.score(comparison, score=f"{path}:mine")
    assert found.score_name == "mine"
    digest = user_code_digest(f"{path}:mine", SETTING)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(detector.score(comparison, score="ideas:mine").scores_rescored, found.scores_rescored)
    path.write_text(path.read_text().replace("median", "mean"))
    assert user_code_digest(f"{path}:mine", SETTING) not in ("", digest)
    assert user_code_digest("few", SETTING) == ""
    with pytest.raises(ConfigError, match="there is no 'mien' in it; did you mean 'mine'"):
        score_of(f"{path}:mien")
    with pytest.raises(ConfigError, match="there is no file"):
        score_of(f"{tmp_path / 'absent.py'}:mine")
    path.write_text("import no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        score_of(f"{path}:mine")
    with pytest.raises(ConfigError, match="neither a function"):
        score_of(3)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda distances, k: distances, r"returned an array of shape \(7, 5\) .* 5 patches"),
        (lambda distances, k: np.full(5, np.nan), "5 of 5 values that are negative or not finite"),
        (lambda distances, k: -distances[0], "5 of 5 values that are negative"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(score, message):
    with pytest.raises(PatchScoreError, match=message):
        patch_scores(np.full((7, 5), 0.5, np.float32), 2, score)


def test_patches_that_are_not_inspected_are_not_given_to_a_score():
    distances = np.full((4, 3), 0.5, np.float32)
    distances[:, 1], distances[0], distances[1:, 2] = -1, np.inf, np.inf
    distances[0, 1] = -1
    found = patch_scores(distances, 1, lambda given, k: np.full(given.shape[1], float(given.size)))
    np.testing.assert_array_equal(found, [3, -1, np.inf])


def test_relative_distances_do_not_depend_on_the_light_of_a_reference():
    rng = np.random.default_rng(0)
    distances = rng.uniform(0.2, 0.3, (6, 40)).astype(np.float32)
    distances[:, 7] = 0.9
    dark = distances.copy()
    dark[2:] *= 2
    before, after = relative(distances, 4), relative(dark, 4)
    assert before.argmax() == after.argmax() == 7
    np.testing.assert_allclose(after / np.median(after), before / np.median(before), rtol=1e-5)


def test_the_highest_hundredth_of_a_map_is_averaged():
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[3, 4], anomaly_map[5, 6:10] = 9, 1
    assert mean_of_highest(anomaly_map) == pytest.approx((9 + 3) / 4)
    assert mean_of_highest(np.full((2, 2), 3.0)) == 3


def test_peaks_that_look_alike_are_averaged(comparison, detector):
    result = detector.score(comparison)
    found = rescore_by_peaks(result.scores, comparison, result.patch_scores)
    vectors = []
    for i, own in enumerate(result.patch_scores.reshape(8, -1)):
        patches = aggregate(np.asarray(comparison.features.layers[0])[i : i + 1], 3, (4, 4))
        vectors.append(np.asarray(patches)[0, own.argmax()])
    weights = np.maximum(np.array(vectors) @ np.array(vectors).T, 0)
    scaled = (result.scores - result.scores.min()) / np.ptp(result.scores)
    near = np.array([np.argsort(-row)[:7] for row in weights])
    averaged = [(w[chosen] * scaled[chosen]).sum() / w[chosen].sum() for w, chosen in zip(weights, near)]
    np.testing.assert_allclose(found, (scaled + averaged) / 2, atol=1e-6)


def test_a_bank_refuses_scores_that_it_cannot_compute(detector, comparison):
    assert (
        detector.score(comparison, score="few", bank=BankConfig(kind="exact", photo_count=4)).bank.score_name == "few"
    )
    with pytest.raises(ConfigError, match="a bank cannot score photos by 'nearest'; use one of standard, few"):
        detector.score(comparison, score="nearest", bank=BankConfig(kind="exact", photo_count=4))
