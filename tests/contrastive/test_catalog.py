import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codegraph_jax.data.search import LayoutError
from contrastive_jax.data.catalog import load_image_set
from tests.support.photos import write_image
from tests.support.processes import run_python

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 6, 3), np.uint8)


def test_npz_gives_images_and_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array([0, 2, 1, 0, 2]))
    read = load_image_set(str(tmp_path / "a.npz"), "", 6)
    np.testing.assert_array_equal(read.images, IMAGES)
    assert read.labels.dtype == np.int32 and read.labels.tolist() == [0, 2, 1, 0, 2]
    assert read.class_names == ("0", "1", "2") and len(read.images) == 5


def test_all_splits_of_an_npz_have_the_same_classes(tmp_path):
    splits = {"x_train": IMAGES, "y_train": np.array([0, 3, 7, 3, 0]), "x_test": IMAGES, "y_test": np.arange(5) + 5}
    for classes, names in (({}, "0123456789"), ({"classes": np.array(list("abcdefghij"))}, "abcdefghij")):
        np.savez(tmp_path / "a.npz", **splits, **classes)
        for split, labels in (("train", [0, 3, 7, 3, 0]), ("test", [5, 6, 7, 8, 9])):
            read = load_image_set(str(tmp_path / "a.npz"), split, 6)
            assert read.class_names == tuple(names) and read.labels.tolist() == labels


def test_other_arrays_of_an_npz_are_not_labels(tmp_path):
    others = {"y_score": np.ones(3), "yaw": np.zeros((2, 2)), "x_test": IMAGES, "y_test": np.full(5, -1)}
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array([0, 2, 1, 0, 2]), **others)
    read = load_image_set(str(tmp_path / "a.npz"), "", 6)
    assert read.labels.tolist() == [0, 2, 1, 0, 2] and read.class_names == ("0", "1", "2")
    with pytest.raises(LayoutError, match="'y_test' must be whole numbers"):
        load_image_set(str(tmp_path / "a.npz"), "test", 6)


def test_npz_files_may_have_no_labels_or_splits_and_npy_files_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES, x_test=IMAGES[:2], y_test=np.array([[1], [0]]))
    assert load_image_set(str(tmp_path / "a.npz"), "", 6).labels is None
    assert load_image_set(str(tmp_path / "a.npz"), "test", 6).labels.tolist() == [1, 0]
    np.save(tmp_path / "b.npy", IMAGES[..., 0])
    read = load_image_set(str(tmp_path / "b.npy"), "", 6)
    np.testing.assert_array_equal(read.images, np.repeat(IMAGES[..., :1], 3, axis=-1))
    assert read.labels is None and read.class_names == ()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": IMAGES}, "no array 'x'; it holds z"),
        ({"x": IMAGES.astype(np.float32)}, "uint8"),
        ({"x": IMAGES[0, 0]}, r"got uint8 \[6, 3\]"),
        ({"x": IMAGES[:0]}, "uint8"),
        ({"x": IMAGES, "y": np.arange(4)}, "'y' has 4 labels for 5 images"),
        ({"x": IMAGES, "y": np.arange(5.0)}, "whole numbers"),
        ({"x": IMAGES, "y": np.arange(5) - 1}, "whole numbers"),
        ({"x": IMAGES, "y": np.arange(5), "classes": np.array(list("abcd"))}, "'classes' must have 5 or more"),
        ({"x": IMAGES, "y": np.arange(5), "classes": np.array(list("abcda"))}, "different texts"),
    ],
)
def test_malformed_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(LayoutError, match=message):
        load_image_set(str(tmp_path / "a.npz"), "", 6)


def test_pickles_are_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    body = io.BytesIO()
    np.lib.format.write_array_header_1_0(body, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    body.write(pickle.dumps(np.array([Trap()], dtype=object)))
    (tmp_path / "a.npy").write_bytes(body.getvalue())
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("x.npy", body.getvalue())
    for name in ("a.npy", "b.npy", "c.npz"):
        with pytest.raises(LayoutError, match="cannot be read"):
            load_image_set(str(tmp_path / name), "", 6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255))), st.integers(1, 10))
def test_damaged_archives_give_images_or_an_error(tmp_path_factory, edits, keep):
    whole = io.BytesIO()
    np.savez_compressed(whole, x=IMAGES, y=np.arange(5))
    data = bytearray(whole.getvalue())
    for place, value in edits:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    path.write_bytes(bytes(data[: len(data) * keep // 10]))
    try:
        load_image_set(str(path), "", 6)
    except LayoutError as error:
        assert "fuzzed.npz" in str(error)


def test_class_folders_give_labels_in_natural_order(tmp_path):
    for name, value in (("class10/a.png", 3), ("class2/b.png", 2), ("class2/a.png", 1)):
        write_image(tmp_path / "train" / name, value)
    read = load_image_set(str(tmp_path), "train", 6)
    assert read.class_names == ("class2", "class10") and read.labels.tolist() == [0, 0, 1]
    assert read.images[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_a_flat_folder_has_no_labels(tmp_path):
    write_image(tmp_path / "a.png")
    read = load_image_set(str(tmp_path), "", 6)
    assert read.labels is None and read.class_names == () and read.images.shape == (1, 6, 6, 3)


def test_folders_that_cannot_be_a_set_are_refused(tmp_path):
    with pytest.raises(LayoutError, match="readable directory"):
        load_image_set(str(tmp_path / "missing"), "", 6)
    with pytest.raises(LayoutError, match="no images"):
        load_image_set(str(tmp_path), "", 6)
    write_image(tmp_path / "a/1.png")
    write_image(tmp_path / "2.png")
    with pytest.raises(LayoutError, match=r"class folders and also images \('2\.png'\)"):
        load_image_set(str(tmp_path), "", 6)
    (tmp_path / "2.png").unlink()
    (tmp_path / "a/3.png").write_bytes(b"broken")
    with pytest.raises(LayoutError, match=r"3\.png"):
        load_image_set(str(tmp_path), "", 6)


def test_images_of_several_sizes_get_one(tmp_path):
    write_image(tmp_path / "1.png", size=(8, 6))
    write_image(tmp_path / "2.png", size=(5, 9))
    assert load_image_set(str(tmp_path), "", 4).images.shape == (2, 4, 4, 3)


def test_a_size_keeps_the_centre(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert load_image_set(str(tmp_path), "", 10).images.min() == 255
    np.savez(tmp_path / "a.npz", x=wide[None])
    assert load_image_set(str(tmp_path / "a.npz"), "", 10).images.min() == 255


PREPARE_AND_READ = """
import io
import tensorflow_datasets as tfds
from PIL import Image
from contrastive_jax.data.catalog import load_image_set
from codegraph_jax.data.search import LayoutError

class Dots(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(6, 8, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
            "coarse": tfds.features.ClassLabel(names=["all"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, downloads):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            file = io.BytesIO()
            Image.new("RGB", (8, 6), (i,) * 3).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": i % 2, "coarse": 0}

Dots(file_format="array_record").download_and_prepare()
read = load_image_set("tfds:dots", "test", 6)
assert read.images.shape == (3, 6, 6, 3) and read.class_names == ("a", "b")
assert [v % 2 for v in read.images[:, 0, 0, 0]] == read.labels.tolist()
coarse = load_image_set("tfds:dots#coarse", "test", 6)
assert coarse.class_names == ("all",) and coarse.labels.tolist() == [0, 0, 0]
try:
    load_image_set("tfds:dots#fine", "test", 6)
except LayoutError as error:
    assert str(error) == "tfds:dots#fine: no such classes; it has coarse, label", error
else:
    raise AssertionError("tfds:dots#fine")
for source, split in (("tfds:dots", "train"), ("tfds:cifar10", ""), ("tfds:nothing_like_it", "")):
    try:
        load_image_set(source, split, 6)
    except LayoutError as error:
        assert source in str(error) and "download_and_prepare" in str(error), error
    else:
        raise AssertionError(source)
import sys
assert "tensorflow" not in sys.modules
"""


def test_a_prepared_tensorflow_dataset_is_read_without_tensorflow(tmp_path):
    run_python("-c", PREPARE_AND_READ, status=0, TFDS_DATA_DIR=str(tmp_path))
