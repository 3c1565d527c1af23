"""Files of several pages or frames: inspected pages, and the message about the others."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.config import DataConfig
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image, size_of
from codegraph_jax.data.pages import with_pages
from codegraph_jax.data.samples import Sample
from codegraph_jax.resume.state import _files
from codegraph_jax.tasks.sets import read_files

RNG = np.random.default_rng(0)


def paged(path, sizes=((8, 6), (8, 6), (8, 6)), **options):
    first, *rest = [Image.new("RGB", size, (60 * i + 20,) * 3) for i, size in enumerate(sizes)]
    first.save(path, save_all=True, append_images=rest, **options)
    return Sample(str(path), path.name, "parts")


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp", "mpo", "avif"])
def test_each_page_is_a_photo(suffix, tmp_path, caplog):
    sample = paged(tmp_path / f"tray.{suffix}")
    Image.new("RGB", (8, 6)).save(tmp_path / "single.tif")
    single = Sample(str(tmp_path / "single.tif"), "single.tif", "parts")
    with caplog.at_level(logging.WARNING):
        samples = with_pages("parts", [sample, single], "each")
    assert [s.name for s in samples] == [f"tray.{suffix}#{page}" for page in (1, 2, 3)] + ["single.tif"]
    shown = [np.asarray(load_image(s.path)).mean() for s in samples]
    np.testing.assert_allclose(shown, [20, 80, 140, 0], atol=4)
    assert "1 files hold 3 pages" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        (first, _) = with_pages("parts", [sample, single], "first")
    assert (first.path, first.skipped_page_count) == (sample.path, 2)
    assert "2 pages are not (--config.data.pages=each" in caplog.text


def test_the_largest_page_is_found_behind_a_thumbnail(tmp_path):
    sample = paged(tmp_path / "scan.tif", ((8, 6), (80, 60), (20, 15)))
    sizes = [size_of(page) for page in with_pages("parts", [sample], "each")]
    assert sizes == [(8, 6), (80, 60), (20, 15)]
    (largest,) = with_pages("parts", [sample], "largest")
    assert load_image(largest.path).size == (80, 60) and (largest.name, largest.skipped_page_count) == ("scan.tif", 2)


def test_pages_have_their_own_masks(tmp_path):
    sample = paged(tmp_path / "tray.tif")
    mask = paged(tmp_path / "tray_mask.tif").path
    pages = with_pages("parts", [Sample(sample.path, sample.name, "parts", mask=mask)], "each")
    assert [page.mask for page in pages] == [f"{mask}#{i}" for i in (1, 2, 3)]


def test_single_pages_and_broken_files_have_no_pages(tmp_path, caplog):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"II*\0broken")
    samples = [Sample(str(tmp_path / name), name, "parts") for name in ("a.tif", "b.tif", "absent.tif")]
    with caplog.at_level(logging.WARNING):
        assert with_pages("parts", samples, "each") == samples
    assert not caplog.text


def test_missing_pages_are_errors_and_files_with_such_names_are_read(tmp_path):
    paged(tmp_path / "tray.tif")
    with pytest.raises(UnreadableImageError, match="tray.tif#9"):
        load_image(tmp_path / "tray.tif#9")
    Image.new("RGB", (3, 3)).save(tmp_path / "tray.tif#2", "PNG")
    assert load_image(tmp_path / "tray.tif#2").size == (3, 3)


def test_a_changed_file_changes_its_pages(tmp_path):
    """A resumed run must notice that a file was replaced."""
    pages = with_pages("parts", [paged(tmp_path / "tray.tif")], "each")
    before = json.dumps(_files(pages, None))
    paged(tmp_path / "tray.tif", ((9, 9), (9, 9), (9, 9)))
    assert json.dumps(_files(pages, None)) != before


def test_each_page_of_a_file_is_a_photo_of_the_set(tmp_path):
    (tmp_path / "trays").mkdir()
    paged(tmp_path / "trays" / "one.tif")
    categories = read_files(DataConfig(root=str(tmp_path / "trays"), pages="each"))
    assert [sample.name for sample in categories["trays"]] == ["one.tif#1", "one.tif#2", "one.tif#3"]
