"""Data sets of the user: datasets with an index, iterables, and a class as a layout."""

import json

import numpy as np
import pytest
from PIL import Image, ImageSequence, TiffImagePlugin

from codegraph_jax import CoDeGraph
from codegraph_jax.commands.config_files import load_config
from codegraph_jax.config import Config, DataConfig, RecurringConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.data import layouts
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.measured_range import may_lack_data, measured_range
from codegraph_jax.data.own_sets import add_layout, as_samples, pixels
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import LayoutError
from codegraph_jax.tasks import detect
from contrastive_jax import OECL
from tests.support import ROOT
from tests.support.tiny_backbones import tiny_backbone

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)


class Parts:
    """A dataset like PyTorch's, without an iterator: photos as floats [3, h, w], labels, masks."""

    def __init__(self, count=6):
        self.count, self.reads = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        image = np.roll(PHOTO, 3 * index, axis=1)
        mask = np.zeros((20, 24), np.float32)
        mask[:4, :6] = index == 2
        return np.moveaxis(image / np.float32(255), 2, 0), np.int64(index == 2), mask[None]


def image_of(sample):
    return np.asarray(load_image(sample))


def test_an_indexed_dataset_is_read_when_pixels_are_needed():
    dataset = Parts()
    samples = as_samples(dataset)
    assert [s.label for s in samples] == [0, 0, 1, 0, 0, 0] and dataset.reads == 6
    assert [s.name for s in samples[:2]] == ["images[0]", "images[1]"]
    np.testing.assert_array_equal(image_of(samples[3]), np.roll(PHOTO, 9, axis=1))
    assert dataset.reads == 7, "no pixels are kept"
    assert samples[2].mask().shape == (20, 24) and samples[2].mask().sum() == 24


def test_an_iterable_is_read_once():
    samples = as_samples({"image": PHOTO + i, "label": i % 2, "name": f"{i}.png".encode()} for i in range(3))
    assert [s.name for s in samples] == ["0.png", "1.png", "2.png"] and [s.label for s in samples] == [0, 1, 0]
    np.testing.assert_array_equal(image_of(samples[2]), PHOTO + 2)

    class Numpy:
        """The methods of a `tf.data.Dataset` beside its iterator of tensors."""

        def as_numpy_iterator(self):
            yield from ((PHOTO, 1), (PHOTO, 0))

    assert [s.label for s in as_samples(Numpy())] == [1, 0]


def frames_of(file):
    """Pillow's iterator over the pages of a file, which returns one object for all of them."""
    return ImageSequence.Iterator(Image.open(file))


def closed(files):
    for file in files:
        with Image.open(file) as image:
            yield image


def test_opened_images_of_an_iterable_keep_their_pixels(tmp_path):
    deep = [np.full((4, 5), 1000 * i + 500, np.uint16) for i in range(3)]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "500"
    first, *others = (Image.fromarray(page) for page in deep)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others, tiffinfo=tags)
    found = as_samples(frames_of(tmp_path / "pages.tif"))
    for sample, page in zip(found, deep, strict=True):
        np.testing.assert_array_equal(np.asarray(sample.read()), page)
    assert may_lack_data(found[0], None)
    assert measured_range(found).min_max == (1500, 2500), "500 means no data"

    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.fromarray(PHOTO + i).save(file)
    for i, sample in enumerate(as_samples(closed(files))):
        np.testing.assert_array_equal(image_of(sample), PHOTO + i)


def test_a_damaged_image_of_an_iterable_is_reported_when_it_is_needed(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    good, damaged = as_samples(closed([tmp_path / "a.png", tmp_path / "b.png"]))
    np.testing.assert_array_equal(image_of(good), PHOTO)
    with pytest.raises(UnreadableImageError, match=r"images\[1\].*truncated"):
        load_image(damaged)


def test_files_are_passed_on_as_paths(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    (sample,) = as_samples([(tmp_path / "a.png", 1, str(tmp_path / "mask.png"))])
    assert sample == Sample(str(tmp_path / "a.png"), "a.png", "", 1, str(tmp_path / "mask.png"))
    assert as_samples([sample]) == [sample]


@pytest.mark.parametrize(
    "array,expected",
    [
        (PHOTO, PHOTO), (PHOTO[..., 0], PHOTO[..., 0]), (PHOTO[..., :1], PHOTO[..., 0]),
        (np.moveaxis(PHOTO, 2, 0), PHOTO), (PHOTO[None, ..., 0], PHOTO[..., 0]), (PHOTO.astype(np.int64), PHOTO),
        (PHOTO / 255, PHOTO), (PHOTO.astype(np.float32) / 255, PHOTO),
    ],
)  # fmt: skip
def test_pixels_in_any_usual_form(array, expected):
    np.testing.assert_array_equal(pixels(array), expected)


def test_pillow_images_are_converted_when_they_are_read():
    palette, deep = Image.fromarray(PHOTO).quantize(8), Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
    samples = as_samples([palette, deep])
    np.testing.assert_array_equal(image_of(samples[0]), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(image_of(samples[1])[..., 0], PHOTO[..., 0])
    assert measured_range(samples).black_and_white == (0, 65535)


@pytest.mark.parametrize(
    "images",
    [PHOTO, PHOTO[..., 0], PHOTO[..., :1], np.dstack([PHOTO, PHOTO[..., 0]]), PHOTO[None, None], "part.png", 7, None,
     Image.fromarray(PHOTO)],
)  # fmt: skip
def test_single_image_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("part.png")
    with pytest.raises(UserError, match="images: .* give a list"):
        as_samples(images)


@pytest.mark.parametrize(
    "image,kind",
    [(PHOTO / 127, "float64"), (PHOTO.astype(np.uint16) * 2, "uint16"),
     (np.dstack([PHOTO, PHOTO[..., 0]]), "20, 24, 4"), (None, "NoneType"), (3, "int"), ([[1, 2]], r"\[2\]")],
)  # fmt: skip
def test_wrong_image_is_named_by_index_and_type(image, kind):
    with pytest.raises(UserError, match=rf"added\[1\].*{kind}"):
        as_samples([PHOTO, image], "added")


def test_lists_arrays_generators_and_directories_are_accepted(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "b10.png")
    Image.fromarray(PHOTO).save(tmp_path / "b9.png")
    (tmp_path / "notes.txt").touch()
    for directory in (tmp_path, f"{tmp_path}/"):
        samples = as_samples(directory)
        assert [sample.path for sample in samples] == [f"{tmp_path}/b9.png", f"{tmp_path}/b10.png"]
        assert [sample.name for sample in samples] == ["b9.png", "b10.png"]
    assert len(as_samples(np.stack([PHOTO] * 4))) == len(as_samples(np.stack([PHOTO[..., 0]] * 4))) == 4
    assert len(as_samples(tmp_path.glob("*.png"))) == 2
    with pytest.raises(UserError, match="not a directory"):
        as_samples("nowhere at all")


@pytest.mark.usefixtures("shallow")
def test_images_that_cannot_be_used_are_named_by_every_detector(tmp_path, tiny_presets):
    (tmp_path / "broken.png").write_bytes(b"no image")
    photos = list(np.random.default_rng(1).integers(0, 256, (3, 24, 32, 3), np.uint8))
    detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=28, blocks=(1,))
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        detector.detect([*photos, tmp_path / "broken.png"])
    configured = CoDeGraph(Config(backbone=tiny_backbone()))
    with pytest.raises(UserError, match=r"images\[3\].*float64"):
        configured.detect([*photos, PHOTO / 127])
    with pytest.raises(UserError, match="is a single image"):
        configured.detect(PHOTO)
    with pytest.raises(UserError, match="is a single image"):
        OECL(image_size=16, width=2, epochs=1, batch_size=2, objective="simclr").fit(PHOTO)


@pytest.mark.parametrize(
    "item,message",
    [
        ((PHOTO - 127.5) / 60, "normalisation"), (PHOTO.astype(np.int32) * 3, "whole numbers from 0 to 255"),
        (PHOTO[None], "is not an image"), (np.full((4, 4), np.nan), "from nan"), (object(), "is not an image"),
        ((PHOTO, 3), "label 3"), ((PHOTO, 0, None, 1), "has 4 parts"), ({"picture": PHOTO}, "holds picture, but no"),
    ],
)  # fmt: skip
def test_items_that_are_not_images_are_named(item, message):
    with pytest.raises(UserError, match=rf"images\[1\].*{message}"):
        as_samples([PHOTO, item])


def test_an_indexed_dataset_is_detected_without_conversion(tiny_presets):
    result = CoDeGraph(Config(backbone=tiny_backbone())).detect(Parts())
    assert [sample.label for sample in result.samples] == [0, 0, 1, 0, 0, 0]


def test_other_objects_than_datasets_are_refused():
    for data in (7, {"a": PHOTO}, b"photos"):
        with pytest.raises(UserError, match="give a list of images, or a dataset"):
            as_samples(data)
    with pytest.raises(ValueError, match="needs a name"):
        Sample.of(PHOTO)


@pytest.fixture
def own_layout(monkeypatch):
    monkeypatch.setattr(layouts, "LAYOUTS", dict(layouts.LAYOUTS))

    def add(make, name="screws"):
        add_layout(name, make)
        return name

    return add


def test_a_class_becomes_a_layout(own_layout, tmp_path):
    names = ["good/0.png", "good/1.png", "bent/0.png"]
    made = [Sample.of(tmp_path / name, name, label=1, photo_type=name.split("/")[0]) for name in names]
    own_layout(lambda root: {"m3": made, "m4": made[:2]})
    read = read_layout("screws", str(tmp_path), good=["good"])
    assert list(read) == ["m3", "m4"]
    assert [(s.category, s.label, s.photo_type) for s in read["m3"]] == [
        ("m3", 0, "good"),
        ("m3", 0, "good"),
        ("m3", 1, "bent"),
    ]
    own_layout(lambda root: made[2:])
    assert [s.name for s in read_layout("screws", str(tmp_path))["screws"]] == ["bent/0.png"], (
        "a second call replaces it"
    )


@pytest.mark.parametrize(
    "made,message",
    [
        ([PHOTO], "item 0 is a ndarray; return a Sample"),
        ([Sample("a", "a"), Sample("b", "a")], "item 1: another image is called 'a'"),
        ([Sample("a", "../a")], "'../a' is not a relative path"),
        ([Sample("a", "/a")], "'/a' is not a relative path"),
    ],
)  # fmt: skip
def test_wrong_items_of_a_layout_are_named(own_layout, tmp_path, made, message):
    own_layout(lambda root: made)
    with pytest.raises(LayoutError, match=message):
        read_layout("screws", str(tmp_path))


def test_the_config_of_the_documentation_adds_a_layout(own_layout, tmp_path):
    page = (ROOT / "docs" / "datasets.md").read_text()
    section = page.split("## A layout of your own")[1].split("\n## ")[0]
    (tmp_path / "my_screws.py").write_text(section.split("```python\n")[1].split("```")[0])
    for name in ("m3/ok/1.png", "m3/bent/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(PHOTO).save(tmp_path / name)
    for _ in range(2):  # a process may load a config twice
        config = load_config(str(tmp_path / "my_screws.py"))
    read = read_layout(config.data.layout, str(tmp_path))
    assert [s.label for s in read["screws"]] == [1, 0]


def test_layouts_of_the_package_are_not_replaced(own_layout):
    with pytest.raises(LayoutError, match="'mvtec' is a layout of this package"):
        own_layout(lambda root: [], "mvtec")


def test_a_task_runs_on_arrays_with_labels_and_masks(own_layout, tmp_path, tiny_presets):
    own_layout(lambda root: as_samples(Parts()))
    config = Config(data=DataConfig(layout="screws", root=str(tmp_path)), backbone=tiny_backbone(),
                    recurring=RecurringConfig(defects="off"))  # fmt: skip
    (outcome,) = detect.run(config, str(tmp_path / "out"))
    assert outcome.metrics["image_auroc"] is not None and outcome.metrics["pixel_auroc"] is not None
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [row["path"] for row in rows] == [f"images[{i}]" for i in range(6)]
    assert (tmp_path / "out" / "heatmaps" / "screws" / "images[5].png").is_file()
    assert outcome.result.rows()[2]["label"] == "defective"
