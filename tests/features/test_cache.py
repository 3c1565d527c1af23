"""The feature cache: hits, misses, damaged files, other blocks, and the same numbers with and without it."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from codegraph_jax.backbones import load_backbone, weights_identity
from codegraph_jax.config import ParallelConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.distributed.devices import device_mesh
from codegraph_jax.features.cache import FeatureCache
from codegraph_jax.features.extraction import Extractor
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

SIZE = 42
FRAME = Frame.squeezed(SIZE, 14)
BACKBONE = random_backbone(image_size=SIZE)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(BACKBONE)


@pytest.fixture(scope="module")
def images():
    return list(draw_set(6, 64, 0, 0.2, (0.3,)).images)


def work(backbone, images, cache="", batch_size=1, devices=1, dtype=np.float32):
    mesh = device_mesh(ParallelConfig(devices=devices))
    done = []
    extractor = Extractor(backbone, mesh, FRAME, batch_size, dtype=dtype)
    if not cache:
        features = extractor.extract(as_samples(images), advance=done.append)
    else:
        store = FeatureCache(str(cache), backbone, FRAME, dtype)
        features = extractor.extract(as_samples(images), [store], advance=done.append)
        store.warn_of_damage()
    assert sum(done) == len(features.kept)
    return features


def assert_same_features(left, right):
    assert len(left.layers) == len(right.layers)
    for a, b in zip(left.layers, right.layers):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    np.testing.assert_array_equal(left.image_features, right.image_features)
    np.testing.assert_array_equal(left.kept, right.kept)
    assert left.keys == right.keys
    assert left.unreadable == right.unreadable
    assert left.images_per_process == right.images_per_process


def test_the_second_run_needs_no_backbone_and_gives_the_same_numbers(tmp_path, backbone, images, backbone_batches):
    plain = work(backbone, images)
    first = work(backbone, images, tmp_path)
    assert (plain.from_store_count, first.from_store_count) == (0, 0)
    backbone_batches.clear()
    second = work(backbone, images, tmp_path)
    assert not backbone_batches
    assert second.from_store_count == len(images)
    assert_same_features(plain, first)
    assert_same_features(plain, second)


def test_new_images_cost_only_themselves(tmp_path, backbone, images, backbone_batches):
    plain = work(backbone, images, batch_size=3)
    work(backbone, [images[i] for i in (4, 1)], tmp_path, batch_size=3)
    backbone_batches.clear()
    mixed = work(backbone, images, tmp_path, batch_size=3)
    assert backbone_batches == [3, 3]  # four images in batches of three; the second is padded
    assert mixed.from_store_count == 2
    # an image has the same numbers at another place of another batch
    assert_same_features(plain, mixed)


def test_blocks_are_kept_apart(tmp_path, backbone, images, backbone_batches):
    work(backbone, images[:2], tmp_path)
    backbone_batches.clear()
    fewer = load_backbone(dataclasses.replace(BACKBONE, blocks=(3,)))
    assert work(fewer, images[:2], tmp_path).from_store_count == 2
    assert not backbone_batches
    other = load_backbone(dataclasses.replace(BACKBONE, blocks=(2, 3)))
    assert work(other, images[:2], tmp_path).from_store_count == 0
    assert len(backbone_batches) == 2
    assert work(other, images[:2], tmp_path).from_store_count == 2
    assert work(backbone, images[:2], tmp_path).from_store_count == 2


@pytest.mark.parametrize("devices", [1, 2])
def test_cache_separates_precisions(tmp_path, backbone, images, devices):
    plain = work(backbone, images[:4], tmp_path, devices=devices)
    for found in (0, 4):
        rounded = work(backbone, images[:4], tmp_path, devices=devices, dtype=ml_dtypes.bfloat16)
        assert rounded.from_store_count == found
        for narrow, wide in zip(rounded.layers, plain.layers):
            np.testing.assert_array_equal(narrow, wide.astype(ml_dtypes.bfloat16))
    assert work(backbone, images[:4], tmp_path, devices=devices).layers[0].dtype == np.float32


def test_other_settings_find_nothing(tmp_path, backbone, images):
    (key,) = work(backbone, images[:1], tmp_path).keys
    assert FeatureCache(str(tmp_path), backbone, FRAME).load([key]) != [None]
    assert FeatureCache(str(tmp_path), backbone, Frame.squeezed(SIZE + 14, 14)).load([key]) == [None]
    for changed in ({"name": "dinov2-small-registers"}, {"activation": "quick_gelu"}):
        other = load_backbone(dataclasses.replace(BACKBONE, **changed))
        assert FeatureCache(str(tmp_path), other, FRAME).load([key]) == [None], changed
    halved = load_backbone(BACKBONE, ml_dtypes.bfloat16)
    assert FeatureCache(str(tmp_path), halved, FRAME).load([key]) == [None]
    trained = dataclasses.replace(backbone, weights_name="owner/name@1 (model.safetensors)")
    assert FeatureCache(str(tmp_path), trained, FRAME).load([key]) == [None]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_damaged_entries_are_written_again(tmp_path, backbone, images, backbone_batches, caplog, damage):
    plain = work(backbone, images[:2], tmp_path)
    path = sorted(tmp_path.rglob("*.block3.safetensors"))[0]
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-5] ^= 1
    path.write_bytes({"truncated": content[:-9], "flipped": bytes(flipped), "empty": b"", "text": b"{}"}[damage])
    backbone_batches.clear()
    repaired = work(backbone, images[:2], tmp_path)
    assert backbone_batches == [1]
    assert "1 damaged" in caplog.text
    assert_same_features(plain, repaired)
    assert path.read_bytes() == content
    assert work(backbone, images[:2], tmp_path).from_store_count == 2


def test_unreadable_images_stay_out(tmp_path, backbone, images):
    sources = [images[0], "no such file.png", images[1]]
    plain = work(backbone, sources)
    for _ in range(2):
        assert_same_features(plain, work(backbone, sources, tmp_path))


def test_several_devices_fill_and_read_the_same_cache(tmp_path, backbone, images):
    alone = work(backbone, images, tmp_path)
    assert work(backbone, images, tmp_path, devices=2).from_store_count == len(images)
    spread = work(backbone, images, tmp_path / "other", devices=2)
    np.testing.assert_allclose(np.asarray(alone.layers[0]), np.asarray(spread.layers[0]), atol=2e-5)


def test_equal_images_share_their_entries(tmp_path, backbone, images):
    twice = work(backbone, [images[0], images[0]], tmp_path)
    np.testing.assert_array_equal(twice.layers[0][0], twice.layers[0][1])
    assert len(list(tmp_path.rglob("*.image.safetensors"))) == 1


def test_a_directory_that_cannot_be_is_a_clear_error(tmp_path, backbone, images):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="config.data.cache"):
        work(backbone, images[:1], tmp_path / "file" / "below")


def test_a_full_disk_ends_the_writing_and_not_the_run(tmp_path, backbone, images, monkeypatch, caplog):
    plain = work(backbone, images[:2])

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codegraph_jax.core.tensors.save_file", refuse)
    assert_same_features(plain, work(backbone, images[:2], tmp_path))
    assert caplog.text.count("No space left") == 1
    assert not list(tmp_path.rglob(".partial-*"))


def test_identity_is_the_hash_in_any_directory():
    mark = "ab" * 32
    assert weights_identity(f"/a/b.safetensors (sha256 {mark})") == weights_identity(f"c.safetensors (sha256 {mark})")
    assert weights_identity("owner/name@1234 (model.safetensors)") != weights_identity("owner/name@1235 (x)")
