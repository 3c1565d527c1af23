import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.data.layouts import LAYOUTS, read_layout
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.search import LayoutError
from tests.support.photos import write_image, write_images, write_mask


def facts(samples):
    return [(s.name, s.label, s.photo_type, s.mask is not None) for s in samples]


def test_btad_is_read_as_published(tmp_path):
    for category, masks in (("01", "png"), ("03", "bmp")):
        write_images(tmp_path / category, ["train/ok/0001.bmp", "test/ok/0000.bmp", "test/ko/0002.bmp"])
        write_mask(tmp_path / category / f"ground_truth/ko/0002.{masks}")
    read = read_layout("btad", str(tmp_path))
    assert list(read) == ["01", "03"]
    for samples in read.values():
        assert facts(samples) == [("ko/0002.bmp", 1, "ko", True), ("ok/0000.bmp", 0, "ok", False)]


def test_mpdd_is_read_as_published(tmp_path):
    write_images(tmp_path / "tubes", ["train/good/000.png", "test/good/000.png", "test/anomalous/000.png"])
    write_mask(tmp_path / "tubes/ground_truth/anomalous/000_mask.png")
    assert facts(read_layout("mvtec", str(tmp_path))["tubes"]) == [
        ("anomalous/000.png", 1, "anomalous", True),
        ("good/000.png", 0, "good", False),
    ]


def test_mvtec_loco_has_directories_of_masks(tmp_path):
    home = tmp_path / "breakfast_box"
    write_images(home, ["test/good/000.png", "test/logical_anomalies/000.png", "test/structural_anomalies/000.png"])
    write_mask(home / "ground_truth/logical_anomalies/000/000.png", (0, 0, 2, 2))
    write_mask(home / "ground_truth/logical_anomalies/000/001.png", (4, 4, 6, 6))
    write_mask(home / "ground_truth/structural_anomalies/000/000.png", (0, 0, 1, 1))
    logical, structural = read_layout("mvtec", str(tmp_path))["breakfast_box"][1:]
    assert load_mask(logical.mask, None).sum() == 8
    assert load_mask(structural.mask, None).sum() == 1


def test_mvtec_ad_2_reads_the_public_test_images(tmp_path, caplog):
    home = tmp_path / "can"
    write_images(home, ["train/good/0.png", "test_public/good/000_regular.png", "test_public/bad/000_regular.png"])
    write_images(home, ["test_private/000_regular.png", "validation/good/0.png"])
    write_mask(home / "test_public/ground_truth/bad/000_regular_mask.png")
    assert facts(read_layout("mvtec_ad_2", str(tmp_path))["can"]) == [
        ("bad/000_regular.png", 1, "bad", True),
        ("good/000_regular.png", 0, "good", False),
    ]
    assert not caplog.records


VISA_ROWS = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0001.JPG,
candle,test,normal,candle/Data/Images/Normal/0000.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png
"""


@pytest.fixture
def visa(tmp_path):
    for row in VISA_ROWS.splitlines()[1:]:
        image, mask = row.split(",")[3:]
        write_image(tmp_path / image)
        if mask:
            write_mask(tmp_path / mask)
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text(VISA_ROWS)
    return tmp_path


def test_visa_is_read_as_published(visa):
    read = read_layout("visa", str(visa))
    assert list(read) == ["candle", "pcb1"]
    assert facts(read["candle"]) == [
        ("Data/Images/Anomaly/000.JPG", 1, "bad", True),
        ("Data/Images/Normal/0000.JPG", 0, "good", False),
    ]


def test_visa_is_read_without_a_category_and_a_mask(visa, caplog):
    (visa / "pcb1/Data/Images/Anomaly/000.JPG").unlink()
    (visa / "candle/Data/Masks/Anomaly/000.png").unlink()
    assert list(read_layout("visa", str(visa))) == ["candle"]
    for text in ("lists 1 images that do not exist", "'pcb1'", "candle: 1 defective photos have no mask"):
        assert text in caplog.text


def test_visa_is_read_from_its_one_class_copy(tmp_path):
    write_images(tmp_path / "candle", ["train/good/0.JPG", "test/good/0000.JPG", "test/bad/000.JPG"])
    write_mask(tmp_path / "candle/ground_truth/bad/000.png")
    assert facts(read_layout("visa", str(tmp_path))["candle"]) == [
        ("bad/000.JPG", 1, "bad", True),
        ("good/0000.JPG", 0, "good", False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column object"),
        ("object,split,label\n", "line 1: no column image, mask"),
        ("object,split,label,image,mask\ncandle,test,normal\n", "line 2: 3 values, but the header has 5"),
        ("object,split,label,image,mask\ncandle,test,odd,candle/a.png,\n", "line 2: label 'odd'"),
        ("object,split,label,image,mask\n\ncandle,test,normal,../a.png,\n", "line 3: '../a.png' is not a path below"),
        ("object,split,label,image,mask\ncandle,test,normal,/etc/a.png,\n", "line 2: '/etc/a.png' is not a path"),
        ("object,split,label,image,mask\n.,test,normal,a.png,\n", "line 2: '.' is not a path"),
        ("object,split,label,image,mask\ncandle,test,normal,pcb1/a.png,\n", "does not lie below 'candle'"),
        ("object,split,label,image,mask\na/b,test,normal,a/b/c.png,\n", "does not lie below"),
        ('object,split,label,image,mask\ncandle,test,normal,"open\n', "line 2: unexpected end of data"),
        (f"object,split,label,image,mask\ncandle,test,normal,{'x' * 200_000},\n", "line 2: field larger"),
        (b"object,split,label,image,mask\ncandle,test,normal,\xff.png,\n", "line 2: not UTF-8"),
    ],
)
def test_a_malformed_csv_is_named_by_file_and_line(visa, text, message):
    (visa / "split_csv/1cls.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LayoutError, match=r"1cls\.csv.*") as error:
        read_layout("visa", str(visa))
    assert message in str(error.value)


@pytest.mark.parametrize("marks", ["_GT", "_label"])
def test_kolektor_is_read_as_published(tmp_path, marks, caplog):
    home = tmp_path / ("test" if marks == "_GT" else "kos01")
    write_images(home, ["10001.png", "10002.png", "10003.png", "10004.png"])
    (home / f"10004{marks}.png").write_bytes(b"broken")
    write_mask(home / f"10001{marks}.png")
    write_mask(home / f"10002{marks}.png", (0, 0, 0, 0))
    write_images(tmp_path / "train", ["1.png"] if marks == "_GT" else [])
    (samples,) = read_layout("kolektor", str(tmp_path)).values()
    assert [(s.label, s.photo_type, s.mask is not None) for s in samples] == [
        (1, "defect", True),
        (0, "good", False),
        (None, None, False),
        (None, None, False),
    ]
    assert "2 images have no readable mask" in caplog.text


REAL_IAD = {
    "meta": {"normal_class": "OK", "prefix": "audiojack/"},
    "train": [{"category": "audiojack", "anomaly_class": "OK", "image_path": "OK/S0/t.jpg", "mask_path": None}],
    "test": [
        {"category": "audiojack", "anomaly_class": "OK", "image_path": "OK/S0001/a_C1.jpg", "mask_path": None},
        {"category": "audiojack", "anomaly_class": "HS", "image_path": "NG/HS/S2/b.jpg", "mask_path": "NG/HS/S2/b.png"},
        {"category": "audiojack", "anomaly_class": "HS", "image_path": "NG/HS/S3/gone.jpg", "mask_path": None},
    ],
}


@pytest.fixture
def real_iad(tmp_path):
    lists = tmp_path / "realiad_jsons/realiad_jsons"
    lists.mkdir(parents=True)
    (lists / "audiojack.json").write_text(json.dumps(REAL_IAD))
    for size in (256, 1024):
        write_images(tmp_path / f"realiad_{size}" / "audiojack", ["OK/S0001/a_C1.jpg", "NG/HS/S2/b.jpg"])
        write_mask(tmp_path / f"realiad_{size}" / "audiojack/NG/HS/S2/b.png")
    return tmp_path


def test_real_iad_takes_the_largest_resolution(real_iad, caplog):
    samples = read_layout("real_iad", str(real_iad), ("audiojack",))["audiojack"]
    assert facts(samples) == [("NG/HS/S2/b.jpg", 1, "HS", True), ("OK/S0001/a_C1.jpg", 0, "OK", False)]
    assert all("realiad_1024" in s.path for s in samples)
    assert "lists 1 images that do not exist" in caplog.text


def with_entry(**fields):
    return {**REAL_IAD, "test": [{**REAL_IAD["test"][0], **fields}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: Expecting value"),
        ('{"meta": {},\n"test": [}', "line 2: Expecting value"),
        ("[" * 100_000, "audiojack.json"),
        ("[" + "9" * 10_000 + "]", "audiojack.json"),
        ("[]", "expected an object with `meta`"),
        (json.dumps({"meta": {}, "test": {}}), "a list `test`"),
        (json.dumps({"meta": {"normal_class": 1}, "test": []}), "`normal_class`"),
        (json.dumps({**REAL_IAD, "test": [3]}), "test[0]: needs the texts"),
        (json.dumps(with_entry(image_path=None)), "test[0]: needs the texts"),
        (json.dumps(with_entry(image_path="../../x.png")), "test[0]: '../../x.png' is not a path"),
        (json.dumps(with_entry(image_path="..\\x.png")), "is not a path"),
        (json.dumps(with_entry(mask_path=5)), "test[0]: `mask_path`"),
        (json.dumps(with_entry(mask_path="C:\\x.png")), "test[0]: 'C:\\\\x.png' is not a path"),
        (json.dumps(with_entry(image_path="a" * 5000)), "contains no photos"),
        (json.dumps(with_entry(image_path="a\0b")), "is not a path"),
    ],
)
def test_a_malformed_json_is_named_by_file_and_place(real_iad, text, message):
    (real_iad / "realiad_jsons/realiad_jsons/audiojack.json").write_text(text)
    with pytest.raises(LayoutError) as error:
        read_layout("real_iad", str(real_iad))
    assert message in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), min_size=1), st.booleans())
def test_damaged_lists_give_samples_or_a_layout_error(tmp_path_factory, edits, as_csv):
    logging.disable(logging.WARNING)
    root = tmp_path_factory.mktemp("damaged", numbered=True)
    name = "split_csv/1cls.csv" if as_csv else "realiad_jsons/audiojack.json"
    data = (VISA_ROWS if as_csv else json.dumps(REAL_IAD)).encode()
    for place, piece in edits:
        place %= len(data)
        data = data[:place] + piece + data[place + 1 :] if len(data) > 1 else data
    (root / name).parent.mkdir()
    (root / name).write_bytes(data)
    try:
        read_layout("visa" if as_csv else "real_iad", str(root))
    except LayoutError as error:
        assert "\n" not in str(error)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_refuses_an_empty_root(layout, tmp_path):
    with pytest.raises(LayoutError, match="holds no category|contains no photos|nor the directory of a prepared set"):
        read_layout(layout, str(tmp_path))
