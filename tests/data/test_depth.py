"""16-bit files of cameras with fewer bits: one depth for the set, the same for banks and added images."""

import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from codegraph_jax import CoDeGraph, ReferenceBank
from codegraph_jax.config import BackboneConfig, Config, DataConfig
from codegraph_jax.data.depth import brightest, depth_of
from codegraph_jax.data.images import load_image

NETWORK = BackboneConfig(name="dinov2-small", weights="random", image_size=28, blocks=(1,))


def grey(path, values):
    Image.fromarray(np.asarray(values, np.uint16)).save(path)
    return str(path)


def ramp(top, size=(20, 30)):
    return np.linspace(0, top, size[0] * size[1]).reshape(size).astype(np.uint16)


def colour_png(path, values):
    """A PNG of 16-bit colours, which Pillow does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return str(path)


@pytest.mark.parametrize(
    "value,bits", [(0, 8), (255, 8), (256, 9), (1023, 10), (1024, 11), (4095, 12), (16383, 14), (65535, 16)]
)
def test_the_least_depth_that_holds_the_brightest_sample(value, bits):
    assert depth_of(value) == bits


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_set_is_read_by_its_own_depth(bits, suffix, tmp_path):
    top = 2**bits - 1
    files = [grey(tmp_path / f"{i}.{suffix}", ramp(top // (i + 1))) for i in range(3)]
    assert brightest(files, 2) == (top, 0)
    pixels = [np.asarray(load_image(file, depth_of(top)))[..., 0] for file in files]
    for i, shown in enumerate(pixels):
        np.testing.assert_allclose(shown, ramp(top // (i + 1)) * (255 / top), atol=0.51)


def test_only_files_that_have_room_for_more_count(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "b.jpg")
    Image.fromarray(np.full((8, 8), 1e6, np.float32)).save(tmp_path / "c.tif")
    Image.fromarray(np.full((8, 8), 3, np.int32)).save(tmp_path / "d.tif")
    (tmp_path / "e.png").write_bytes(b"broken")
    array = np.full((8, 8), 9, np.uint8)
    assert brightest([*(str(path) for path in sorted(tmp_path.iterdir())), array, str(tmp_path / "absent.png")], 2) == (
        0,
        0,
    )


def test_a_file_that_says_its_depth_is_believed(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    image = Image.fromarray(ramp(4095))
    image.save(tmp_path / "a.tif", tiffinfo=tags)
    shown = Image.open(tmp_path / "a.tif")
    assert brightest([str(tmp_path / "a.tif")], 1) == (4095, 0)
    assert shown.mode == "I;16"
    # a PGM says its greatest value, and Pillow spreads it over the range
    (tmp_path / "b.pgm").write_bytes(b"P5 4 1 1023\n" + np.array([0, 341, 682, 1023], ">u2").tobytes())
    assert brightest([str(tmp_path / "b.pgm")], 1) == (0, 0)
    assert np.asarray(load_image(tmp_path / "b.pgm", 10))[0, :, 0].tolist() == [0, 85, 170, 255]


def test_deep_colours_are_brightened_and_what_is_lost_is_said(tmp_path, caplog):
    values = np.stack([ramp(4095)] * 3, axis=-1)
    files = [colour_png(tmp_path / f"{i}.png", values // (i + 1)) for i in range(3)]
    assert brightest(files, 1) == (0, 4095)
    shown = np.asarray(load_image(files[0], 12), float)[..., 0]
    assert abs(shown - ramp(4095) * (255 / 4095)).max() < 17, "sixteen steps are left of 256"
    with caplog.at_level(logging.WARNING):
        result = CoDeGraph(Config(backbone=NETWORK)).detect(files)
    assert "use 12 bits, of which only the upper 4 can be read" in caplog.text
    assert result.depth == 12


def test_one_depth_for_the_set_its_bank_and_added_images(tmp_path):
    noise = np.random.default_rng(0)
    files = [grey(tmp_path / f"{i}.png", noise.integers(0, 4096, (28, 28))) for i in range(5)]
    shallow = [tmp_path / f"s{i}.png" for i in range(5)]
    for file, copy in zip(files, shallow):
        load_image(file, 12).save(copy)
    dark = grey(tmp_path / "dark.png", noise.integers(0, 300, (28, 28)))
    load_image(dark, 12).save(tmp_path / "dark8.png")

    detector = CoDeGraph(Config(backbone=NETWORK))
    deep = detector.detect(files, added=[dark], bank_references=4)
    plain = detector.detect(shallow, added=[tmp_path / "dark8.png"], bank_references=4)
    assert (deep.depth, plain.depth) == (12, 16)
    np.testing.assert_array_equal(deep.scores_raw, plain.scores_raw)

    deep.bank.save(str(tmp_path / "bank.safetensors"))
    bank = ReferenceBank.load(str(tmp_path / "bank.safetensors"))
    assert bank.depth == 12, "a single dark image must not be brightened by its own range"
    np.testing.assert_allclose(
        bank.score_samples([dark]), plain.bank.score_samples([tmp_path / "dark8.png"]), atol=1e-3
    )

    given = CoDeGraph(Config(backbone=NETWORK, data=DataConfig(depth=14))).detect(files)
    assert given.depth == 14
