"""Sets with classes in files of their own: tables of labels, and boxes in Pascal VOC's format."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codegraph_jax.data.search import LayoutError
from contrastive_jax.data.catalog import list_image_set, load_image_set
from contrastive_jax.data.image_set import decode


def grey(path, value, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


def values_of(read):
    return [int(image[0, 0, 0]) for image in read.images]


@pytest.fixture
def lesions(tmp_path):
    """HAM10000 as unpacked: two folders of images and one table; and the challenge's test with a column per class."""
    home = tmp_path / "ham"
    grey(home / "HAM10000_images_part_1" / "ISIC_1.jpg", 10)
    grey(home / "HAM10000_images_part_2" / "ISIC_2.jpg", 20)
    grey(home / "HAM10000_images_part_2" / "ISIC_3.jpg", 30)
    (home / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,age\nH1,ISIC_2,nv,30\nH2,ISIC_1,mel,40\nH3,ISIC_3,nv,\n"
    )
    grey(home / "test" / "Test_Input" / "ISIC_9.jpg", 90)
    (home / "test" / "GroundTruth.csv").write_text("\ufeffimage,MEL,NV\nISIC_9,0.0,1.0\n", encoding="utf-8")
    return home


def test_a_table_gives_the_classes(lesions):
    read = load_image_set(f"csv:{lesions}/HAM10000_metadata.csv", "", 8)
    assert read.class_names == ("mel", "nv") and read.labels.tolist() == [1, 0, 1]
    assert np.allclose(values_of(read), [20, 10, 30], atol=2)
    assert load_image_set(f"csv:{lesions}/HAM10000_metadata.csv#lesion_id", "", 8).class_names == (
        "H1",
        "H2",
        "H3",
    )


def test_columns_of_marks_are_classes(lesions):
    read = load_image_set(f"csv:{lesions}/test/GroundTruth.csv", "", 8)
    assert [read.class_names[label] for label in read.labels] == ["NV"]


def test_only_chosen_images_are_decoded(lesions):
    (lesions / "HAM10000_images_part_1" / "ISIC_1.jpg").write_bytes(b"no image")
    source = f"csv:{lesions}/HAM10000_metadata.csv"
    listed = list_image_set(source, "", 8)
    read = decode(listed, 8, np.flatnonzero(listed.labels == 1))
    assert len(read.images) == 2 and read.labels.tolist() == [1, 1]
    with pytest.raises(LayoutError, match="ISIC_1.jpg.*remove or replace"):
        load_image_set(source, "", 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("image,label\n", "holds no rows"),
        ("image,label\nISIC_1,a,b\n", "line 2: 3 values, but the header has 2 columns"),
        ("image,label\nISIC_1,a\nISIC_7,b\n", "1 of 2 images are not below .*'ISIC_7'"),
        ("image,A,B\nISIC_1,1,1\n", "found no class column among image, A, B"),
        ("image,note\nISIC_1,blue\n", "found no class column"),
    ],
)
def test_unsuitable_tables_are_refused(lesions, text, message):
    (lesions / "a.csv").write_text(text)
    with pytest.raises(LayoutError, match=message):
        load_image_set(f"csv:{lesions}/a.csv", "", 8)


def test_a_table_may_name_splits_paths_and_columns(tmp_path):
    grey(tmp_path / "a" / "1.png", 10)
    grey(tmp_path / "b" / "1.png", 20)
    (tmp_path / "names.csv").write_text("file,label\n1,x\n")
    with pytest.raises(LayoutError, match=r"'1' is ambiguous \('.*a/1.png', '.*b/1.png'\); write paths into the table"):
        load_image_set(f"csv:{tmp_path}/names.csv", "", 8)
    (tmp_path / "t.tsv").write_text("file\tkind\tsplit\na/1.png\tx\ttrain\nb/1.png\ty\ttest\n")
    read = load_image_set(f"csv:{tmp_path}/t.tsv#kind", "test", 8)
    assert values_of(read) == [20] and read.class_names == ("y",)
    with pytest.raises(LayoutError, match="has no column 'sort'; it has file, kind, split"):
        load_image_set(f"csv:{tmp_path}/t.tsv#sort", "", 8)
    with pytest.raises(LayoutError, match="holds no rows of split 'val'"):
        load_image_set(f"csv:{tmp_path}/t.tsv#kind", "val", 8)
    with pytest.raises(LayoutError, match="absent.csv.*No such file"):
        load_image_set(f"csv:{tmp_path}/absent.csv", "", 8)


def annotation(*objects):
    written = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
        + "</bndbox></object>"
        for name, box in objects
    )
    return f"<annotation><filename>x</filename>{written}</annotation>"


@pytest.fixture
def aerial(tmp_path):
    """DIOR as unpacked: boxes of two kinds, and the images of two splits in two folders."""
    home = tmp_path / "dior"
    horizontal, oriented = (home / "Annotations" / f"{kind} Bounding Boxes" for kind in ("Horizontal", "Oriented"))
    for folder in (horizontal, oriented):
        folder.mkdir(parents=True)
    for name, folder in (("00001", "JPEGImages-trainval"), ("00002", "JPEGImages-test")):
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[4:12, 5:20] = 200
        (home / folder).mkdir()
        Image.fromarray(pixels).save(home / folder / f"{name}.png")
        (oriented / f"{name}.xml").write_text("<annotation><object><name>ship</name></object></annotation>")
    (horizontal / "00001.xml").write_text(annotation(("ship", (6, 5, 20, 12)), ("vehicle", (1, 1, 3, 3))))
    (horizontal / "00002.xml").write_text(annotation(("airplane", (6.2, 5, 20, 12)), ("ship", (25, 10, 40, 20))))
    (home / "ImageSets" / "Main").mkdir(parents=True)
    (home / "ImageSets" / "Main" / "train.txt").write_text("00001\n")
    (home / "ImageSets" / "Main" / "test.txt").write_text("00002 1\n\n")
    return home


def test_objects_are_cut_along_their_boxes(aerial):
    read = load_image_set(f"voc:{aerial}", "train", size=8, min_box_side=8)
    assert read.class_names == ("ship",) and (read.images == 200).all()
    read = load_image_set(f"voc:{aerial}", "test", size=8, min_box_side=0)
    assert [read.class_names[label] for label in read.labels] == ["airplane", "ship"]
    assert (read.images[0] == 200).all() and (read.images[1] == 0).all()
    # as VOC has masks
    grey(aerial / "SegmentationClass" / "00001.png", 50)
    whole = load_image_set(f"voc:{aerial}", "", 4)
    assert whole.class_names == ("airplane", "ship", "vehicle") and len(whole.images) == 4


def test_boxes_that_cannot_be_read_are_named(aerial, tmp_path):
    for split, message in (("val", "val.txt.*no such file"), ("train", "no object with sides of 50 pixels")):
        with pytest.raises(LayoutError, match=message):
            load_image_set(f"voc:{aerial}", split, size=8, min_box_side=50)
    with pytest.raises(LayoutError, match="has no folder Annotations"):
        load_image_set(f"voc:{tmp_path}", "", 8)
    broken = aerial / "Annotations" / "Horizontal Bounding Boxes" / "00001.xml"
    for text in ("<annotation>", annotation(("ship", ("a", 1, 2, 3))), "<annotation><object/></annotation>"):
        broken.write_text(text)
        with pytest.raises(LayoutError, match="00001.xml.*is not a Pascal VOC annotation"):
            load_image_set(f"voc:{aerial}", "train", size=8)
    broken.write_text(annotation(("ship", (100, 100, 120, 120))))
    with pytest.raises(LayoutError, match="lies outside of the image, 30 x 20"):
        load_image_set(f"voc:{aerial}", "train", size=8)
    (aerial / "ImageSets" / "Main" / "train.txt").write_text("00003\n")
    with pytest.raises(LayoutError, match="'00003' of split 'train' have no file below Annotations"):
        load_image_set(f"voc:{aerial}", "train", size=8)
    grey(aerial / "JPEGImages-trainval" / "00002.png", 50)
    with pytest.raises(LayoutError, match="found 2 images named '00002'"):
        load_image_set(f"voc:{aerial}", "test", size=8)
    (aerial / "JPEGImages-trainval" / "00002.png").unlink()
    (aerial / "JPEGImages-test" / "00002.png").unlink()
    with pytest.raises(LayoutError, match="found no image named '00002'"):
        load_image_set(f"voc:{aerial}", "test", size=8)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_set_or_an_error(tmp_path_factory, text):
    home = tmp_path_factory.mktemp("any")
    grey(home / "1.png", 10)
    (home / "Annotations").mkdir()
    (home / "Annotations" / "1.xml").write_text(text, encoding="utf-8", errors="replace")
    (home / "t.csv").write_text(text, encoding="utf-8", errors="replace")
    for source in (f"csv:{home}/t.csv", f"voc:{home}"):
        with contextlib.suppress(LayoutError):
            assert len(load_image_set(source, "", 4).images) > 0
