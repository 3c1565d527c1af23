import threading
import time

import numpy as np
import pytest

from codegraph_jax.data import batches as batches_module
from codegraph_jax.data.batches import ImageBatches, image_key
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.samples import Sample
from tests.support.photos import write_image


def tiny(image):
    return np.asarray(image.resize((2, 2)), np.float32)


def constant(value):
    """A sample with this value everywhere."""
    return Sample.of(np.full((3, 3), value, np.uint8), f"{value}")


@pytest.mark.parametrize(("count", "batch_size", "workers"), [(7, 3, 2), (6, 3, 1), (1, 4, 4), (5, 1, 3)])
def test_every_image_comes_once_in_order_in_padded_batches(count, batch_size, workers):
    seen = []
    for indices, keys, images in ImageBatches([constant(i) for i in range(count)], tiny, batch_size, workers):
        valid = len(indices)
        assert images.shape == (batch_size, 2, 2, 3) and images.dtype == np.float32
        assert len(keys) == valid and not images[valid:].any()
        np.testing.assert_array_equal(images[:valid, 0, 0, 0], indices)
        seen.extend(indices.tolist())
    assert seen == list(range(count))


def test_no_sources_give_no_batches():
    assert list(ImageBatches([], tiny, 4)) == []


def test_order_is_kept_when_early_images_are_slow():
    def slow_first(image):
        time.sleep(0.05 if image.getpixel((0, 0))[0] == 0 else 0)
        return tiny(image)

    batches = ImageBatches([constant(i) for i in range(6)], slow_first, 2, workers=3)
    assert [indices.tolist() for indices, _, _ in batches] == [[0, 1], [2, 3], [4, 5]]


def test_unreadable_images_are_left_out_and_listed(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    sources = [
        Sample.of(write_image(tmp_path / "a.png", 1)),
        Sample.of(tmp_path / "broken.png"),
        constant(2),
        constant(3),
    ]
    batches = ImageBatches(sources, tiny, 2)
    assert [indices.tolist() for indices, _, _ in batches] == [[0, 2], [3]]
    ((index, reason),) = batches.skipped
    assert index == 1 and "broken.png" in reason and "not an image" in reason


def test_unreadable_images_end_the_run_where_that_is_asked(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        list(ImageBatches([constant(1), Sample.of(tmp_path / "broken.png")], tiny, 2, unreadable="error"))


def test_errors_of_the_preprocessing_are_not_swallowed():
    def fail(image):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(ImageBatches([constant(1)], fail, 2))


def test_decoding_runs_ahead_but_not_far():
    started = 0
    lock = threading.Lock()

    def count(image):
        nonlocal started
        with lock:
            started += 1
        return tiny(image)

    stream = iter(ImageBatches([constant(0)] * 100, count, 4, workers=2))
    next(stream)
    time.sleep(0.1)
    assert 4 < started <= 4 + 2 * 2
    before = threading.active_count()
    stream.close()
    assert threading.active_count() < before and started < 100


def test_keys_are_those_of_the_batches_and_made_by_the_threads(monkeypatch):
    """Digests of large images would delay the main thread, and thus the device."""
    seen = []
    monkeypatch.setattr(
        batches_module, "image_key", lambda image: seen.append(threading.current_thread().name) or image_key(image)
    )
    keys = []
    for batch in ImageBatches([constant(i) for i in range(5)], tiny, 2, workers=2):
        assert batch.keys == [image_key(image) for image in batch.images[: len(batch.indices)]]
        keys += batch.keys
    assert len(set(keys)) == 5 == len(seen)
    assert all(name.startswith("decode") for name in seen)
