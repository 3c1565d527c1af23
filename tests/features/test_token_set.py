"""Tokens from memory and from files give the same result as the photos, on all devices."""

import tracemalloc

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from codegraph_jax import CoDeGraph, Config
from codegraph_jax.config import (
    BackboneConfig,
    BankConfig,
    ParallelConfig,
    ResourcesConfig,
    ScoringConfig,
    SimilarityConfig,
)
from codegraph_jax.consistency.review import Review, ReviewError
from codegraph_jax.core.errors import UserError
from codegraph_jax.detector import TooFewImagesError
from codegraph_jax.features.extraction import NotFiniteError
from codegraph_jax.features.token_set import TokenBatches, TokensError, TokenSet
from tests.support.photos import drawn_parts
from tests.support.user_backbones import PATCH, SIZE, Numpy, Traced, detector, placed

N, H, W, C = 6, 4, 5, 8


def given(**settings):
    return CoDeGraph(Config(backbone=BackboneConfig(name="precomputed"), **settings))


def drawn(n=N, width=C, seed=0):
    return np.random.default_rng(seed).standard_normal((n, H, W, width), np.float32)


@pytest.fixture(scope="module")
def photos():
    """Photos, their tokens of `Traced`, and the result of the photos."""
    images = drawn_parts(9)
    layers, image_features = Numpy()(np.stack([placed(image) for image in images]))
    return images, layers, image_features, detector(Traced(), parallel=ParallelConfig(devices=1)).detect(images)


@pytest.mark.parametrize("devices", [1, 4])
def test_tokens_of_photos_give_the_result_of_the_photos(photos, devices):
    _, layers, image_features, want = photos
    own = given(parallel=ParallelConfig(devices=devices))
    found = own.detect_features(layers, (4, 4), image_features, patch_size=PATCH)
    np.testing.assert_allclose(found.patch_scores, want.patch_scores, atol=2e-6)
    np.testing.assert_allclose(found.scores, want.scores, atol=2e-6)
    np.testing.assert_allclose(found.scores_rescored, want.scores_rescored, atol=1e-5)
    np.testing.assert_array_equal(found.flagged, want.flagged)
    assert found.maps().shape == (9, SIZE, SIZE) and found.weights_name == "precomputed"


def test_without_image_features_nothing_is_rescored(photos):
    _, layers, image_features, want = photos
    found = given().detect_features(layers, (4, 4), patch_size=PATCH)
    np.testing.assert_array_equal(found.scores_rescored, found.scores)
    np.testing.assert_allclose(found.scores, want.scores, atol=2e-6)
    never = given(scoring=ScoringConfig(rescore=False)).detect_features(layers, (4, 4), image_features)
    np.testing.assert_array_equal(never.scores_rescored, never.scores)


def packed(*arguments, **named):
    tokens = TokenSet(*arguments, **named)
    assert tokens.grid == (H, W)
    return np.concatenate([images[: len(indices)] for indices, _, images in TokenBatches(tokens, 4)])


def test_files_are_read_like_arrays(tmp_path):
    first, second, image_features = drawn(), drawn(width=3, seed=1), np.ascontiguousarray(drawn()[:, 0, 0])
    np.save(tmp_path / "first.npy", first)
    np.save(tmp_path / "second.npy", second.reshape(N, H * W, 3))
    np.save(tmp_path / "images.npy", image_features)
    tensors = {"layer0": first, "layer1": second}
    save_file(tensors | {"image_features": image_features}, tmp_path / "all.safetensors")
    want = np.concatenate([first.reshape(N, -1), second.reshape(N, -1), image_features], axis=1)
    files = [tmp_path / "first.npy", str(tmp_path / "second.npy")]
    for found in (
        packed([first, second], image_features=image_features),
        packed(files, image_features=tmp_path / "images.npy"),
        packed(tmp_path / "all.safetensors"),
        packed([jnp.asarray(first), second.astype(np.float64)], image_features=image_features),
        packed([first.reshape(N, -1, C), second.reshape(N, -1, 3)], (H, W), image_features),
    ):
        np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(packed(tmp_path / "first.npy"), packed(first))
    for dtype in (ml_dtypes.bfloat16, np.float16):
        save_file({"layer": first.astype(dtype)}, tmp_path / "half.safetensors")
        for half in (first.astype(dtype), tmp_path / "half.safetensors"):
            np.testing.assert_array_equal(packed(half), first.astype(dtype).astype(np.float32).reshape(N, -1))


def test_a_large_file_is_not_read_at_once(tmp_path):
    shape = (400, 16, 16, 64)
    stored = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, shape)
    for start in range(0, 400, 50):
        stored[start : start + 50] = np.random.default_rng(start).standard_normal((50, *shape[1:]), np.float32)
    del stored
    tracemalloc.start()
    tokens = TokenSet(tmp_path / "large.npy")
    read = sum(len(indices) for indices, _, _ in TokenBatches(tokens[10:390], 8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == 380 and peak < 0.1 * 4 * np.prod(shape)


def test_features_can_lie_on_disk_and_distances_on_a_device():
    one = ParallelConfig(devices=1)
    want = given(parallel=one).compare_features(drawn()).tables.host()[0]
    for resources in (
        ResourcesConfig(memory_gib=1e-9),
        ResourcesConfig(distances_on="device"),
    ):
        found = given(parallel=one, resources=resources).compare_features(drawn())
        np.testing.assert_allclose(found.tables.host()[0], want, atol=1e-6)


def test_copies_are_not_references_of_each_other():
    tokens = drawn()
    alone = given().detect_features(tokens)
    twice = given().detect_features(np.concatenate([tokens, tokens[2:3]]))
    np.testing.assert_array_equal(twice.patch_scores, alone.patch_scores[[0, 1, 2, 3, 4, 5, 2]])
    same = given().detect_features(np.repeat(tokens[:1], 3, axis=0))
    assert same.scores.max() < 2e-3, "there are no other images to compare with"


def test_comparing_and_scoring_can_be_separated_as_for_photos():
    own = given(similarity=SimilarityConfig(references=4))
    comparison = own.compare_features(drawn())
    assert len(comparison.references) == 4
    result = own.score(comparison)
    np.testing.assert_array_equal(result.patch_scores, own.detect_features(drawn()).patch_scores)
    review = result.review(photos={0: "defective"})
    assert own.detect_features(drawn(), review=review).flagged[0]
    with pytest.raises(ReviewError, match="was made with other features"):
        own.detect_features(drawn(), review=Review({**own.feature_identity, "weights": "x"}, (), {}))


def test_photos_and_banks_need_a_network(photos):
    images, layers, _, _ = photos
    own = given()
    for call in (own.detect, own.compare, own.product_ids):
        with pytest.raises(UserError, match="this detector has no network for photos: give tokens to detect_features"):
            call(images)
    with pytest.raises(UserError, match="a bank scores new photos and needs a backbone"):
        own.score(own.compare_features(layers, (4, 4)), bank=BankConfig(kind="exact", photo_count=4))
    with pytest.raises(UserError, match='has the backbone filters 1; make one with "precomputed"'):
        detector(Numpy()).detect_features(layers, (4, 4))


def test_tokens_that_are_not_finite_name_the_image():
    tokens = drawn()
    tokens[3, 1, 2, 0] = np.nan
    with pytest.raises(NotFiniteError, match="image 3"):
        given().detect_features(tokens)


def test_one_image_is_too_few():
    with pytest.raises(TooFewImagesError, match="1 of 1"):
        given().detect_features(drawn(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((drawn().reshape(N, -1, C),), r"layers\[0\]: has shape \[6, 20, 8\]; give grid=\(rows, columns\) .* = 20"),
        ((drawn().reshape(N, -1, C), (4, 4)), r"needed are 6 images with a grid of 4 x 4 = 16 patches \(without class"),
        ((drawn(), (5, 4)), r"has shape \[6, 4, 5, 8\]; needed are 6 images with a grid of 5 x 4"),
        (([drawn(), drawn(5)],), r"layers\[1\]: has shape \[5, 4, 5, 8\]; needed are 6 images"),
        ((drawn()[0, 0],), r"layers\[0\]: has shape \[5, 8\]; give \[images, patches, channels\]"),
        ((drawn(), (4.0, 5)), r"grid: is \(4\.0, 5\); give \(rows, columns\)"),
        ((drawn(), None, drawn()[:, 0, 0][:5]), r"image_features: has shape \[5, 8\]; needed is \[6, d\]"),
        (([],), "layers: is empty; give an array"),
        (("tokens.pt",), r"layers: 'tokens\.pt' is not a \.npy file; .*safetensors"),
        (("absent.npy",), r"layers: 'absent\.npy' cannot be read"),
        (("absent.safetensors",), r"layers: 'absent\.safetensors' cannot be read"),
        ((["a", 3],), r"layers\[0\]: 'a' is not a \.npy file"),
        (([3],), r"layers\[0\]: is a int; give an array of numbers, or the path"),
        ((np.array(["x"]),), "layers: is a ndarray; give an array of numbers"),
    ],
)
def test_tokens_that_do_not_fit_together_are_refused(arguments, message):
    with pytest.raises(TokensError, match=message):
        given().detect_features(*arguments)


def test_files_that_may_run_code_or_are_damaged_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 20)
    save_file({"image_features": drawn()[:, 0, 0]}, tmp_path / "alone.safetensors")
    for name in ("objects.npy", "empty.npy", "damaged.safetensors"):
        with pytest.raises(TokensError, match=f"{name}' cannot be read"):
            TokenSet(tmp_path / name)
    with pytest.raises(TokensError, match="has no tensor with tokens"):
        TokenSet(tmp_path / "alone.safetensors")


def test_the_name_is_a_setting_like_others():
    assert CoDeGraph(backbone="precomputed").config.backbone.name == "precomputed"
