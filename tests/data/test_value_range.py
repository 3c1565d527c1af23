"""Files whose samples do not have 8 bits: one range for the set, the same for banks and added images."""

import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from codegraph_jax import CoDeGraph, ReferenceBank
from codegraph_jax.config import BankConfig, Config, DataConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.measured_range import measured_range
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import Summary, ValueRange, range_of
from codegraph_jax.features.reading import measure_range
from tests.support.networks import random_backbone
from tests.support.photos import raw_png

pytestmark = pytest.mark.usefixtures("shallow")

NETWORK = random_backbone(image_size=28, blocks=(1,))
RNG = np.random.default_rng(0)
PHOTOS = RNG.random((6, 40, 60)).cumsum(axis=2) / 60 * 0.9 + 0.1 * RNG.random((6, 40, 60))
"""Grey values in [0, 1), brighter to the right."""


@pytest.fixture(scope="module")
def detector():
    return CoDeGraph(Config(backbone=NETWORK))


def written(root, samples, suffix="tif", **options):
    root.mkdir(exist_ok=True)
    files = [root / f"{i}.{suffix}" for i in range(len(samples))]
    for file, own in zip(files, samples):
        Image.fromarray(own).save(file, **options)
    return [str(file) for file in files]


def png16(path, values, colour_type=2):
    """A PNG of 16-bit channels, which Pillow does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(raw_png(width, height, 16, colour_type, rows))
    return str(path)


def tiff16(path, values, order="<"):
    """A TIFF of 16-bit RGB without compression, which Pillow does not write."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    bits = 8 + len(data)
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 2), (273, 4, 8), (277, 3, 3)]
    tags += [(278, 4, height), (279, 4, len(data))]
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        count, kind = (3, 3) if tag == 258 else (1, kind)
        filled = struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value)
        directory += struct.pack(f"{order}HHI", tag, kind, count) + filled
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", bits + 6)
    path.write_bytes(start + data + struct.pack(f"{order}HHH", 16, 16, 16) + directory + bytes(4))
    return str(path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_range_follows_the_bits_in_use(bits, suffix, tmp_path):
    top = 2**bits - 1
    samples = (PHOTOS / PHOTOS.max() * top).astype(np.uint16)
    found = measured_range(as_samples(written(tmp_path, samples, suffix)))
    assert (found.low, found.high) == (0, top)
    for i, own in enumerate(samples):
        shown = np.asarray(load_image(tmp_path / f"{i}.{suffix}", found))[..., 0]
        np.testing.assert_allclose(shown, own * (255 / top), atol=0.51)


def spoilt(kind):
    twelve = (PHOTOS * 4095).astype(np.uint16)
    thermal = (29_500 + PHOTOS * 1500).astype(np.uint16)
    floats = (0.45 + 0.05 * PHOTOS).astype(np.float32)
    integers = (PHOTOS * 50_000 - 10_000).astype(np.int32)
    if kind in ("one dead pixel", "dead pixels"):
        for i in range(1 if kind == "one dead pixel" else len(twelve)):
            twelve[i, 3 + i, [9, 40]] = RNG.integers(30_000, 65_536, 2)
        return twelve
    if kind == "a dead column":
        twelve[:, :, 7] = 65_535
        return twelve
    if kind == "written text":
        twelve[:, 2:9, 2:30] = 65_535
        return twelve
    if kind == "thermal":
        return thermal
    if kind == "thermal with dead pixels":
        thermal[:, 4, 4], thermal[:, 8, 8] = 0, 65_535
        return thermal
    if kind == "thermal with a black frame":
        thermal[:, :5] = 0
        return thermal
    if kind.startswith("float"):
        floats[:, :5] = float(kind.removeprefix("float "))
        return floats
    integers[:, :5] = int(kind.removeprefix("int "))
    return integers


@pytest.mark.parametrize(
    "kind",
    [
        "one dead pixel", "dead pixels", "a dead column", "written text", "thermal", "thermal with dead pixels",
        "thermal with a black frame", "float -9999", "float nan", "float inf", "float -3.4028235e38", "float 1e20",
        "float -32768", "float -1", "float 0", "float 7777", "int -2147483648", "int -99999", "int 2147483647",
    ],
)  # fmt: skip
def test_outliers_do_not_change_the_range(kind):
    """At least half of the grey levels remain for the part."""
    samples = spoilt(kind)
    found = range_of([Summary.of(own) for own in samples])
    shown = np.stack([found.to_uint8(own) for own in samples])[:, 20:, 8:].astype(float)
    assert np.ptp(shown.reshape(len(shown), -1), axis=1).min() > 100
    assert np.corrcoef(shown.ravel(), PHOTOS[:, 20:, 8:].ravel())[0, 1] > 0.99
    fills = ("float -9999", "float nan", "float inf", "float -3.4", "float 1e20", "float -32768", "float -1", "int")
    assert found.gap_photo_count == (len(samples) if kind.startswith(fills) else 0), (
        "a bright or black sample may be a defect"
    )


def test_a_defect_beyond_the_others_is_brighter_than_they_are():
    samples = (1000 + PHOTOS * 1000).astype(np.uint16)
    samples[3, 10:15, 10:15] = 60_000
    found = range_of([Summary.of(own) for own in samples])
    assert found.to_uint8(samples[3]).max() == 255 and found.to_uint8(samples[2]).max() < 200
    assert "a few pixels are outside, up to 60,000" in str(found)


def test_sixteen_bit_colours_are_read_whole(tmp_path):
    values = np.stack([PHOTOS[0], PHOTOS[1], PHOTOS[2]], axis=-1)
    twelve = (values * 4095).astype(np.uint16)
    opaque = np.full((40, 60, 1), 65_535)
    files = {
        png16(tmp_path / "rgb.png", twelve): twelve,
        png16(tmp_path / "rgba.png", np.concatenate([twelve, opaque], -1), 6): twelve,
        png16(tmp_path / "la.png", np.concatenate([twelve[..., :1], opaque], -1), 4): twelve[..., [0, 0, 0]],
        tiff16(tmp_path / "little.tif", twelve): twelve,
        tiff16(tmp_path / "big.tif", twelve, ">"): twelve,
    }
    for file, expected in files.items():
        found = measured_range(as_samples([file]))
        assert (found.low, found.high) == (0, 4095), file
        np.testing.assert_allclose(np.asarray(load_image(file, found)), expected * (255 / 4095), atol=0.51)


def test_sixteen_bit_colours_that_pillow_has_opened_have_eight_bits(tmp_path):
    file = png16(tmp_path / "rgb.png", (np.stack(PHOTOS[:3], axis=-1) * 255).astype(np.uint16) * 257)
    samples = as_samples([Image.open(file)])
    assert measured_range(samples) is None
    lazy = Sample.of(Image.open(file), "lazy")
    for sample in (*samples, lazy, lazy):
        np.testing.assert_array_equal(np.asarray(load_image(sample, ValueRange(0, 2000))), load_image(file))


def test_files_of_eight_bits_do_not_count_for_the_range(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "b.jpg")
    (tmp_path / "e.png").write_bytes(b"broken")
    array = np.full((8, 8), 9, np.uint8)
    files = [*map(str, sorted(tmp_path.iterdir())), array, str(tmp_path / "absent.png")]
    assert measured_range(as_samples(files)) is None


def test_pixels_without_data_are_not_inspected(detector, tmp_path):
    """The scores are the same for other values of these pixels."""
    floats = (0.45 + 0.05 * PHOTOS).astype(np.float32)
    floats[2, :20] = np.nan
    files = written(tmp_path / "a", floats)
    result = detector.detect(files, bank=BankConfig(kind="exact", photo_count=4))
    inspected = result.placement.inspected.reshape(len(files), 2, 2)
    assert not inspected[2, 0].any() and inspected[2, 1].all() and inspected[[0, 1, 3, 4, 5]].all()
    assert (result.patch_scores[2, 0] == 0).all() and result.value_range.gap_photo_count == 1
    bank = result.bank
    bank.save(str(tmp_path / "bank.safetensors"))
    loaded = ReferenceBank.load(str(tmp_path / "bank.safetensors"))
    assert loaded.value_range == result.value_range
    inspection = loaded.inspect(files[2:3])
    assert (inspection.patch_scores[0, 0] == 0).all() and not inspection.areas[0](60, 40)[:20].any()
    empty = written(tmp_path / "b", [np.full((8, 8), np.nan, np.float32)])
    with pytest.raises(UnreadableImageError, match="no pixel has data"):
        load_image(empty[0], result.value_range)


def test_a_declared_value_has_no_data(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "31000"
    samples = (29_500 + PHOTOS * 1000).astype(np.uint16)
    samples[:, :20] = 31_000
    (file, *_) = written(tmp_path, samples, tiffinfo=tags)
    found = measured_range(as_samples([file]))
    assert found.high < 30_700 and found.gap_photo_count == 1
    assert not load_image(file, found).info["has_data"][:20].any()


def test_one_range_for_the_set_its_bank_and_added_images(detector, tmp_path):
    samples = [RNG.integers(29_500, 31_000, (28, 28)).astype(np.uint16) for _ in range(5)]
    files = written(tmp_path / "set", samples)
    (added,) = written(tmp_path / "added", [RNG.integers(29_600, 29_900, (28, 28)).astype(np.uint16)])
    deep = detector.detect(files, added=[added], bank=BankConfig(kind="exact", photo_count=4))
    shallow = [np.asarray(load_image(file, deep.value_range)) for file in (*files, added)]
    plain = detector.detect(shallow[:5], added=shallow[5:], bank=BankConfig(kind="exact", photo_count=4))
    assert plain.value_range is None
    np.testing.assert_array_equal(deep.scores, plain.scores)
    assert shallow[5].max() < 100, "a single dark image must not be brightened by its own range"

    deep.bank.save(str(tmp_path / "bank.safetensors"))
    bank = ReferenceBank.load(str(tmp_path / "bank.safetensors"))
    np.testing.assert_allclose(bank.anomaly_scores([added]), plain.bank.anomaly_scores(shallow[5:]), atol=1e-3)


def test_a_person_can_set_the_range(tmp_path):
    files = written(tmp_path, (PHOTOS * 4095).astype(np.uint16))
    found, _ = measure_range(DataConfig(range=(0, 16_383), no_data=(-5,)), as_samples(files))
    assert found.black_and_white == (0, 16_383) and found.no_data == (-5,)
    for values in ((9, 3), (0, 4095, -5), 7):
        with pytest.raises(ConfigError, match="DataConfig.range: .* as in 0,4095"):
            DataConfig(range=values)


def test_a_person_can_set_the_values_without_data(tmp_path):
    samples = (PHOTOS * 4095).astype(np.uint16)
    samples[2, :20] = 65_535
    files = written(tmp_path / "set", samples)
    found, incomplete = measure_range(DataConfig(no_data=(65_535,)), as_samples(files))
    assert (found.low, found.high, found.no_data) == (0, 4095, (65_535,)) and incomplete == {2}
    detector = CoDeGraph(Config(backbone=NETWORK, data=DataConfig(no_data=(65_535,))))
    result = detector.detect(files, bank=BankConfig(kind="exact", photo_count=4))
    assert (result.patch_scores[2, 0] == 0).all() and result.value_range == found
    inspection = result.bank.inspect(files[2:3])
    assert (inspection.patch_scores[0, 0] == 0).all(), "the bank knows the value too"


def test_a_range_is_read_as_it_was_written():
    assert ValueRange.from_json(ValueRange(0, 4095, (-1,), (0, 70), 2).as_json()) == ValueRange(
        0, 4095, (-1,), (0, 70), 2
    )
