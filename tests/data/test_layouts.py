import logging
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.search import LayoutError, natural_key
from tests.support.photos import write_image, write_images, write_mask


def names(samples):
    return [sample.name for sample in samples]


def test_folder_reads_every_format_in_any_case_flat_and_nested_in_natural_order(tmp_path):
    root = tmp_path / "my photos"
    write_images(root, ["img10.png", "img2.JPG", "b/c/x.tiff", "b/y.WebP", "a.bmp", "z.jpeg", "w.tif"])
    (root / "notes.txt").write_text("no image")
    (root / "._img2.jpg").write_bytes(b"resource fork")
    read = read_layout("folder", str(root))
    assert list(read) == ["my photos"]
    assert names(read["my photos"]) == ["a.bmp", "b/c/x.tiff", "b/y.WebP", "img2.JPG", "img10.png", "w.tif", "z.jpeg"]
    assert {(s.label, s.mask, s.photo_type, s.category) for s in read["my photos"]} == {(None, None, None, "my photos")}
    assert all(Path(s.path).is_file() for s in read["my photos"])


def test_folder_is_named_after_the_directory_for_all_spellings(tmp_path, monkeypatch):
    write_image(tmp_path / "parts" / "a.png")
    monkeypatch.chdir(tmp_path / "parts")
    assert list(read_layout("folder", ".")) == ["parts"]
    assert list(read_layout("folder", str(tmp_path / "parts") + "/")) == ["parts"]


def test_links_are_followed_once_and_loops_end(tmp_path):
    root = tmp_path / "set"
    write_images(root, ["b/1.png", "2.png"])
    write_image(tmp_path / "elsewhere" / "3.png")
    (root / "b" / "up").symlink_to(root)
    (root / "a").symlink_to(root / "b")
    (root / "away").symlink_to(tmp_path / "elsewhere")
    (root / "self.png").symlink_to("self.png")
    (root / "nowhere.png").symlink_to("missing.png")
    # loops end, b has its real name, and links that cannot be read are listed, so that they are reported later
    assert names(read_layout("folder", str(root))["set"]) == [
        "2.png",
        "away/3.png",
        "b/1.png",
        "nowhere.png",
        "self.png",
    ]


def test_names_that_break_scripts_survive(tmp_path):
    odd = ['it\'s "here".png', "a b.png", "line\nbreak.png", "<b>&amp;.png", "$(rm).png", "ü.png"]
    write_images(tmp_path, odd)
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    os.link(tmp_path / "a b.png", raw)
    samples = read_layout("folder", str(tmp_path))[tmp_path.name]
    assert {*odd, os.fsdecode(b"\xff\xfe.png")} == set(names(samples))
    assert all(Path(sample.path).exists() for sample in samples)
    assert raw in [os.fsencode(sample.path) for sample in samples]


@pytest.mark.parametrize("root", ["", "/nonexistent/dir", "with\0nul"])
def test_a_root_that_is_not_a_directory_is_refused(root):
    with pytest.raises(LayoutError, match=r"data\.root"):
        read_layout("folder", root)


def test_a_single_file_is_a_folder_of_one(tmp_path):
    file = str(write_image(tmp_path / "line 3" / "a.png"))
    ((category, (sample,)),) = read_layout("folder", file).items()
    assert (category, sample.path, sample.name) == ("line 3", file, "a.png")


def test_a_file_as_root_of_a_data_set_and_an_empty_root_are_refused(tmp_path):
    with pytest.raises(LayoutError, match="cannot list"):
        read_layout("mvtec", str(write_image(tmp_path / "a.png")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="contains no photos"):
        read_layout("folder", str(tmp_path / "empty"))
    with pytest.raises(LayoutError, match="holds no category of layout 'mvtec'. Categories of the form"):
        read_layout("mvtec", str(tmp_path / "empty"))


def test_an_unknown_layout_gets_a_hint(tmp_path):
    with pytest.raises(LayoutError, match="did you mean 'mvtec'"):
        read_layout("mvtek", str(tmp_path))


@pytest.fixture
def mvtec(tmp_path):
    for category in ("bottle", "screw"):
        home = tmp_path / category
        write_images(home, ["train/good/000.png", "test/good/000.png", "test/bent/010.png", "test/bent/009.png"])
        write_mask(home / "ground_truth/bent/009_mask.png")
        write_mask(home / "ground_truth/bent/010_mask.png")
    return tmp_path


def test_mvtec_gives_labels_masks_and_defects_of_the_test_images_only(mvtec):
    read = read_layout("mvtec", str(mvtec))
    assert list(read) == ["bottle", "screw"]
    assert [(s.name, s.label, s.photo_type) for s in read["bottle"]] == [
        ("bent/009.png", 1, "bent"),
        ("bent/010.png", 1, "bent"),
        ("good/000.png", 0, "good"),
    ]
    assert [s.mask and s.mask[-32:] for s in read["bottle"]] == [
        "bottle/ground_truth/bent/009_mask.png"[-32:],
        "bottle/ground_truth/bent/010_mask.png"[-32:],
        None,
    ]


def test_mvtec_takes_the_root_of_a_single_category(mvtec):
    assert list(read_layout("mvtec", str(mvtec / "screw"))) == ["screw"]


def test_masks_of_the_same_stem_count_and_missing_ones_are_counted(mvtec, caplog):
    truth = mvtec / "bottle/ground_truth/bent"
    (truth / "009_mask.png").rename(truth / "009.bmp")
    (truth / "010_mask.png").unlink()
    samples = read_layout("mvtec", str(mvtec), ("bottle",))["bottle"]
    assert samples[0].mask == str(truth / "009.bmp")
    assert samples[1].mask is None and samples[1].label == 1
    assert "bottle: 1 defective photos have no mask" in caplog.text


def test_categories_have_the_requested_order_and_absent_ones_are_named(mvtec, caplog):
    assert list(read_layout("mvtec", str(mvtec), ("screw", "bottle", "screw"))) == ["screw", "bottle"]
    assert list(read_layout("mvtec", str(mvtec), ("all",))) == ["bottle", "screw"]
    with caplog.at_level(logging.WARNING):
        assert list(read_layout("mvtec", str(mvtec), ("cable", "screw"))) == ["screw"]
    assert "'cable'" in caplog.text
    with pytest.raises(LayoutError, match="'cable'.*holds 'bottle', 'screw'"):
        read_layout("mvtec", str(mvtec), ("cable",))


def test_an_empty_category_is_left_out_by_name(mvtec, caplog):
    (mvtec / "cable/test/good").mkdir(parents=True)
    assert list(read_layout("mvtec", str(mvtec))) == ["bottle", "screw"]
    assert "category 'cable'" in caplog.text
    with pytest.raises(LayoutError, match="'cable' .*contains no photos"):
        read_layout("mvtec", str(mvtec), ("cable",))


def test_images_directly_in_test_have_no_label(mvtec):
    write_image(mvtec / "bottle/test/000.png")
    assert [s.name for s in read_layout("mvtec", str(mvtec))["bottle"] if s.label is None] == ["000.png"]


def test_a_hundred_thousand_names_take_seconds(tmp_path):
    for folder in range(10):
        (tmp_path / f"batch {folder}").mkdir()
        for i in range(10_000):
            os.mknod(tmp_path / f"batch {folder}" / f"img_{i}.png")
    start = time.process_time()
    samples = read_layout("folder", str(tmp_path))[tmp_path.name]
    assert len(samples) == 100_000 and names(samples)[9_999:10_001] == ["batch 0/img_9999.png", "batch 1/img_0.png"]
    assert time.process_time() - start < 10


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab0123456789٣/._-", max_size=12), unique=True))
def test_natural_order_is_total_and_does_not_depend_on_the_order_of_the_files(found):
    assert sorted(found, key=natural_key) == sorted(reversed(found), key=natural_key)
    digits = [name for name in found if name.isascii() and name.isdigit()]
    assert [int(n) for n in sorted(digits, key=natural_key)] == sorted(int(n) for n in digits)


def typed(root, kinds, masks=()):
    for kind in kinds:
        write_images(root / "part" / "test" / kind, ("0.png", "1.png"))
    for kind in masks:
        write_mask(root / "part" / "ground_truth" / kind / "0_mask.png")


def labels(samples):
    return {sample.name: sample.label for sample in samples}


def test_a_set_without_a_type_called_good_has_no_labels_and_a_warning(tmp_path, caplog):
    typed(tmp_path, ("normal", "abnormal", "cut"), masks=("cut",))
    (samples,) = read_layout("mvtec", str(tmp_path)).values()
    known = {"cut/0.png": 1}
    assert labels(samples) == dict.fromkeys((sample.name for sample in samples), None) | known
    assert "there is no folder good (there are abnormal, cut, normal)" in caplog.text
    assert caplog.text.strip().endswith("--good=normal")
    caplog.clear()
    (samples,) = read_layout("mvtec", str(tmp_path), good=("normal",)).values()
    assert "no type" not in caplog.text
    assert [sample.label for sample in samples] == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("layout", ["mvtec", "btad", "visa"])
def test_types_of_good_parts_can_be_named_in_every_layout_of_types(layout, tmp_path):
    typed(tmp_path, ("fine", "also fine", "cut"))
    (samples,) = read_layout(layout, str(tmp_path), good=("fine", "also fine")).values()
    assert sum(sample.label == 0 for sample in samples) == 4
    with pytest.raises(LayoutError, match=r"data.good: no folder 'goood' in .*it holds 'also fine', 'cut', 'fine'"):
        read_layout(layout, str(tmp_path), good=("goood",))


def test_folders_of_a_plain_folder_can_be_labels(tmp_path):
    write_images(tmp_path / "photos", ("good/0.png", "good/deep/1.png", "bad/0.png", "loose.png"))
    (samples,) = read_layout("folder", str(tmp_path / "photos")).values()
    assert {sample.label for sample in samples} == {None}
    (samples,) = read_layout("folder", str(tmp_path / "photos"), good=("good",)).values()
    assert labels(samples) == {"good/0.png": 0, "good/deep/1.png": 0, "bad/0.png": 1, "loose.png": None}
    with pytest.raises(LayoutError, match="data.good: no folder 'ok'"):
        read_layout("folder", str(tmp_path / "photos"), good=("ok",))


def test_layouts_that_list_labels_refuse_names_of_good_folders(tmp_path):
    (tmp_path / "kos01").mkdir()
    with pytest.raises(LayoutError, match="data.good: cannot be used with layout"):
        read_layout("kolektor", str(tmp_path), good=("good",))
