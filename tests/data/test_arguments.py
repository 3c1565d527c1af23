"""Images in any form that the library accepts, and errors that name the wrong image."""

import numpy as np
import pytest
from PIL import Image

from codegraph_jax import CoDeGraph
from codegraph_jax.config import BackboneConfig, Config
from codegraph_jax.core.errors import UserError
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.own_sets import as_samples
from contrastive_jax import OECL

pytestmark = pytest.mark.usefixtures("shallow")

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
NETWORK = BackboneConfig(name="dinov2-small", weights="random", image_size=28, blocks=(1,))


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
     (np.dstack([PHOTO, PHOTO[..., 0]]), "24, 32, 4"), (None, "NoneType"), (3, "int"), ([[1, 2]], r"\[2\]")],
)  # fmt: skip
def test_wrong_image_is_named_by_index_and_type(image, kind):
    with pytest.raises(UserError, match=rf"added\[1\].*{kind}"):
        as_samples([PHOTO, image], "added")


def test_lists_arrays_generators_and_directories_are_taken(tmp_path):
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


def test_scores_are_in_the_order_of_the_images(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    photos = list(np.random.default_rng(1).integers(0, 256, (3, 24, 32, 3), np.uint8))
    detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=28, blocks=(1,))
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        detector.detect([*photos, tmp_path / "broken.png"])
    configured = CoDeGraph(Config(backbone=NETWORK))
    with pytest.raises(UserError, match=r"images\[3\].*float64"):
        configured.detect([*photos, PHOTO / 127])
    with pytest.raises(UserError, match="is a single image"):
        configured.detect(PHOTO)
    with pytest.raises(UserError, match="is a single image"):
        OECL(image_size=16, width=2, epochs=1, batch_size=2, mode="simclr").fit(PHOTO)
