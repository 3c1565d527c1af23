"""The search for images: the files that count, and the list of skipped ones."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.core.file_ownership import replace_written
from codegraph_jax.data import formats
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.formats import image_suffixes, is_image_name
from codegraph_jax.data.images import load_image
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.search import LayoutError, find_images, skipped_below

SAVED = {
    "a.png": "PNG", "b.jpg": "JPEG", "c.jfif": "JPEG", "d.jpe": "JPEG", "e.gif": "GIF", "f.pgm": "PPM", "g.ppm": "PPM",
    "h.jp2": "JPEG2000", "i.avif": "AVIF", "j.TIFF": "TIFF", "k.webp": "WEBP", "l.bmp": "BMP", "m.tga": "TGA",
    "n.pcx": "PCX", "o.qoi": "QOI", "p.mpo": "MPO", "q.dib": "DIB", "r.sgi": "SGI",
}  # fmt: skip


def photo(value=100):
    return Image.fromarray(np.full((24, 32, 3), value, np.uint8))


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo().save(root / name, "PNG")


@pytest.mark.parametrize("name", SAVED)
def test_every_format_of_pillow_is_read(name, tmp_path):
    image = photo().convert("L") if name.endswith("pgm") else photo()
    image.save(tmp_path / name, SAVED[name])
    assert list(find_images(str(tmp_path))) == [name]
    pixels = np.asarray(load_image(tmp_path / name))
    assert pixels.shape == (24, 32, 3)
    assert abs(int(pixels.mean()) - 100) < 4


def test_heic_is_read_where_its_package_is_installed(tmp_path):
    pytest.importorskip("pillow_heif")
    photo().save(tmp_path / "IMG_1.HEIC", "HEIF")
    assert list(find_images(str(tmp_path))) == ["IMG_1.HEIC"]
    assert abs(int(np.asarray(load_image(tmp_path / "IMG_1.HEIC")).mean()) - 100) < 4


def test_without_the_package_heic_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("codegraph_jax.data.search.is_image_name", lambda name: name.endswith(".jpg"))
    for i in range(3):
        (tmp_path / f"IMG_{i}.HEIC").touch()
    with pytest.raises(LayoutError, match=r"contains no photos.*3 \.heic \(.*pip install pillow-heif\)"):
        read_layout("folder", str(tmp_path))


def test_text_is_not_read_as_an_image(tmp_path):
    for name in ("a.tga", "b.jpg", "c.psd", "d.heic"):
        (tmp_path / name).write_bytes(b"These are words, and words are no pixels. " * 20)
        with pytest.raises(UnreadableImageError):
            load_image(tmp_path / name)


def test_formats_that_call_other_programs_or_are_only_announced_do_not_count():
    for name in ("a.eps", "b.ps", "c.wmf", "d.h5", "e.mpg", "f.pdf", "g.ico", ".hidden.png", "without"):
        assert not is_image_name(name), name
    assert {".png", ".jfif", ".jpe", ".gif", ".pgm", ".ppm", ".avif", ".jp2", ".tga"} <= image_suffixes()
    assert not formats.PICTURES & image_suffixes() - formats.EXTRA


def test_skipped_files_are_counted_by_suffix(tmp_path):
    touch(tmp_path, "a.png", "b/c.png")
    for name in ("x.CR2", "b/y.cr2", "notes.txt", "LICENSE", ".DS_Store", "b/.hidden.cr2"):
        (tmp_path / name).touch()
    left_out = skipped_below([str(tmp_path)])
    assert left_out.suffixes == {".cr2": 2, ".txt": 1, "": 1}
    assert left_out.lines(all_suffixes=True) == [
        "skipped, not readable as images: 2 .cr2 (convert to tif or png), 1 without suffix, 1 .txt"
    ]
    assert left_out.lines(all_suffixes=False) == ["skipped, not readable as images: 2 .cr2 (convert to tif or png)"]
    assert left_out.as_json()["suffixes"] == {"": 1, ".cr2": 2, ".txt": 1}


@pytest.mark.parametrize("store", ["@eaDir", "@EADIR", "#recycle", "__MACOSX", "$RECYCLE.BIN", "lost+found"])
def test_thumbnails_and_deleted_files_are_left_out(store, tmp_path):
    touch(tmp_path, "a.png", f"sub/{store}/a.png/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/a.png")
    assert list(find_images(str(tmp_path))) == ["a.png"]
    (said,) = skipped_below([str(tmp_path)]).lines(all_suffixes=True)
    assert store in said and "thumbnails or deleted files" in said


def test_pictures_of_a_run_are_not_photos(tmp_path):
    touch(tmp_path, "1.png", "2.png", "runs/night/heatmaps/x/1.png", "runs/night/masks/x/1.png", "runs/night/own.png")
    replace_written(tmp_path / "runs/night", ["heatmaps/x/1.png", "masks/x/1.png", "scores.csv"])
    (tmp_path / "runs/night/scores.csv").touch()
    assert list(find_images(str(tmp_path))) == ["1.png", "2.png", "runs/night/own.png"]
    (said,) = skipped_below([str(tmp_path)]).lines(all_suffixes=True)
    assert said == f"skipped: 2 pictures that earlier runs have written into {tmp_path}/runs/night"
    # the same if the workdir is the folder itself
    replace_written(tmp_path, ["2.png"])
    touch(tmp_path, "2.png")
    assert list(find_images(str(tmp_path))) == ["1.png", "runs/night/own.png"]
    # if the directory of the heat maps of a run is given, they are found
    assert list(find_images(str(tmp_path / "runs/night/heatmaps"))) == ["x/1.png"]


def refusing(original, name):
    """A function of os that refuses the directories of a name."""

    def answer(place, *arguments, **fields):
        if str(place).endswith(name):
            raise PermissionError(13, "Permission denied", str(place))
        return original(place, *arguments, **fields)

    return answer


def test_directories_that_cannot_be_listed_are_a_warning(tmp_path, caplog, monkeypatch):
    touch(tmp_path, "a.png", "locked/b.png")
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, "locked"))
    with caplog.at_level(logging.WARNING):
        assert list(find_images(str(tmp_path))) == ["a.png"]
    assert "1 directories cannot be listed" in caplog.text


def test_a_directory_that_is_not_searchable_hides_its_subdirectories_only(tmp_path, caplog, monkeypatch):
    """With mode 744, names can be listed but not read; root may do everything."""
    touch(tmp_path, "a.png", "half/b.png", "half/deep/c.png")
    for name in ("scandir", "stat", "lstat"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), "deep"))
    with caplog.at_level(logging.WARNING):
        assert list(find_images(str(tmp_path))) == ["a.png", "half/b.png"]
    assert "1 directories cannot be listed" in caplog.text
