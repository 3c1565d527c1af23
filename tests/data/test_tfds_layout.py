"""Sets of tensorflow-datasets as a layout; another process prepares them, so that its import has no effect here."""

import csv

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import LayoutError
from tests.support.networks import random_backbone
from tests.support.processes import run_python

pytestmark = pytest.mark.usefixtures("shallow")

PREPARE = """
import io, sys
import tensorflow_datasets as tfds
from PIL import Image

class Parts(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["cracked", "fine", "dirty"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, downloads):
        return {"train": self._generate_examples(2), "test": self._generate_examples(6)}

    def _generate_examples(self, n):
        for i in range(n):
            file = io.BytesIO()
            Image.new("RGB", (60 + i, 40), (i, 100 + i, 7)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": i % 3}

Parts(file_format=sys.argv[1]).download_and_prepare()
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    home = tmp_path_factory.mktemp("tfds")
    run_python("-c", PREPARE, "array_record", status=0, TFDS_DATA_DIR=str(home))
    return home / "parts" / "1.0.0"


def test_splits_are_categories_with_stable_names(prepared):
    read = read_layout("tfds", str(prepared))
    assert list(read) == ["test", "train"] and len(read["train"]) == 2
    samples = read["test"]
    assert [s.path for s in samples] == [f"tfds:parts/test/{i:06d}" for i in range(6)]
    assert {s.label for s in samples} == {None} and {s.photo_type for s in samples} == {"cracked", "fine", "dirty"}
    for sample in samples:
        image = load_image(sample)
        red, green, blue = np.asarray(image)[0, 0]
        assert image.size == (60 + red, 40) and (green, blue) == (100 + red, 7)
        assert sample.photo_type == ("cracked", "fine", "dirty")[red % 3]


def test_the_classes_that_are_normal_are_a_setting(prepared):
    (samples,) = read_layout("tfds", str(prepared), ("test",), ("fine", "dirty")).values()
    assert all(s.label == (s.photo_type == "cracked") for s in samples)
    with pytest.raises(LayoutError, match="data.good: no class 'good' .*'cracked', 'fine', 'dirty'"):
        read_layout("tfds", str(prepared), ("test",), ("good",))


def test_the_error_about_an_unprepared_set_has_the_remedy(prepared, tmp_path):
    with pytest.raises(LayoutError, match="neither tfds:NAME nor"):
        read_layout("tfds", str(tmp_path))
    with pytest.raises(LayoutError, match="download_and_prepare"):
        read_layout("tfds", "tfds:nothing_like_it")
    with pytest.raises(LayoutError, match="no category 'validation' .*'test', 'train'"):
        read_layout("tfds", str(prepared), ("validation",))


def test_an_image_that_cannot_be_read_has_its_name():
    def broken():
        raise OSError("shard is gone")

    with pytest.raises(UnreadableImageError, match="tfds:parts/test/000001': cannot be read: shard is gone"):
        load_image(Sample("tfds:parts/test/000001", "000001", read=broken))
    with pytest.raises(UnreadableImageError, match="tfds:x/y/000000': expected uint8"):
        load_image(Sample("tfds:x/y/000000", "000000", read=lambda: np.zeros((2, 2), np.float32)))
    grey = Sample("grey", "grey", read=lambda: np.full((2, 3, 1), 9, np.uint8))
    assert load_image(grey).getpixel((0, 0)) == (9, 9, 9)


def test_a_run_needs_no_files(prepared, tmp_path):
    from codegraph_jax.config import Config, DataConfig
    from codegraph_jax.tasks.detect import run

    config = Config(
        # a given range, since photos of one grey level would be refused
        data=DataConfig(layout="tfds", root=str(prepared), categories=("test",), good=("fine",), range=(0.0, 255.0)),
        backbone=random_backbone(image_size=28, blocks=(1,)),
    )
    (outcome,) = run(config, str(tmp_path))
    assert outcome.metrics["image_auroc"] is not None and outcome.metrics["pixel_auroc"] is None
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [f"tfds:parts/test/{i:06d}" for i in range(6)]
    width, height = Image.open(tmp_path / "heatmaps" / "test" / "000003.png").size
    assert width > height
    assert "tfds:parts/test/000003" in (tmp_path / "report.html").read_text()
