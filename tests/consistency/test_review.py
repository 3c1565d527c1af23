"""Reviews in files: they are read as they were written, and other files are refused."""

import copy
import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.consistency.decision import Answers
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.review import PhotoReview, Review, ReviewError
from codegraph_jax.consistency.signature import Signature
from codegraph_jax.scoring.active_calibration import Answer
from tests.support.damage import BUDGET, JSON, positions

FEATURES = {"weights": "sha256 abc", "image_size": 56, "blocks": [1, 3], "activation": "checkpoint"}


def make_pattern(seed=0, name="tool mark", verdict="defect"):
    rng = np.random.default_rng(seed)
    signature = Signature(rng.integers(-127, 127, (3, 2, 8)).astype(np.int8), np.full(3, 0.5, np.float32), 0.6, 2)
    product = Product(rng.integers(-127, 127, 5).astype(np.int8), 0.9)
    return Pattern(name, verdict, signature, product, 9, 150)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "review.json"
    Review(FEATURES, (make_pattern(), make_pattern(1, "<b>\udcff\u202e", "variant"))).save(str(path))
    return path


def test_a_loaded_review_is_equal(saved):
    review = Review.load(str(saved))
    assert review.feature_identity == FEATURES
    first, second = review.patterns
    assert (first.name, first.verdict, first.member_count, first.image_count) == ("tool mark", "defect", 9, 150)
    assert second.name == "<b>\udcff\u202e"
    want = make_pattern()
    np.testing.assert_array_equal(first.signature.prototypes, want.signature.prototypes)
    np.testing.assert_array_equal(first.product.mean, want.product.mean)
    vectors = np.random.default_rng(3).normal(size=(2, 4, 16)).astype(np.float32)
    np.testing.assert_array_equal(first.signature.match_mask(vectors), want.signature.match_mask(vectors))


def test_a_photo_without_an_answer_is_neither_good_nor_defective():
    photos = {str(answer): PhotoReview(str(answer), answer=answer, note="x") for answer in (*get_args(Answer), None)}
    assert Answers(photos).by_index([*photos, "other"]) == dict(enumerate(get_args(Answer)))


def test_features_of_another_run_are_refused_with_the_difference(saved):
    review = Review.load(str(saved))
    review.check(FEATURES)
    with pytest.raises(
        ReviewError, match=r"review.json: was made with other features \(image_size is 56, in this run 112\)"
    ):
        review.check({**FEATURES, "image_size": 112}, "review.json")
    with pytest.raises(ReviewError, match="weights"):
        review.check({**FEATURES, "weights": "sha256 other"})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "1", "{}", '{"format": "codegraph-review-5"}', "[" * 100_000, '{"a": NaN}']
)
def test_other_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ReviewError, match="other.json: is not a review") as problem:
        Review.load(str(path))
    assert "\n" not in str(problem.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReviewError, match=r"nowhere.json: cannot be read \(No such file"):
        Review.load(str(tmp_path / "nowhere.json"))


@BUDGET
@given(st.data())
def test_damaged_reviews_are_refused_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    Review(FEATURES, (make_pattern(),)).save(str(path))
    values = json.loads(path.read_text())
    *parents, last = data.draw(st.sampled_from(list(positions(values))))
    broken = copy.deepcopy(values)
    inner = broken
    for key in parents:
        inner = inner[key]
    inner[last] = data.draw(JSON | st.sampled_from(["A", "====", 10**400, -1, [3, 2, 8], [10**6] * 3]))
    path.write_text(json.dumps(broken))
    try:
        review = Review.load(str(path))
    except ReviewError as error:
        assert "damaged.json" in str(error)
        return
    for pattern in review.patterns:
        width = pattern.signature.prototypes.shape[1] * pattern.signature.prototypes.shape[2]
        pattern.signature.match_mask(np.ones((1, 3, width), np.float32))
        pattern.product.fits(np.ones((2, len(pattern.product.mean)), np.float32))
