import io
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from codegraph_jax.data import formats
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import load_image, size_of
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.samples import Sample
from tests.support.photos import raw_png, write_image, write_mask

# Pillow warns about broken metadata that it skips
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (12, 16, 3), np.uint8)


def pixels(path):
    image = load_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "PNG"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    Image.fromarray(NOISE).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), NOISE)


def test_arrays_and_images_are_accepted():
    np.testing.assert_array_equal(pixels(Sample.of(NOISE, "a")), NOISE)
    np.testing.assert_array_equal(pixels(Sample.of(NOISE[:, ::2, 0], "a")), np.repeat(NOISE[:, ::2, :1], 3, axis=2))
    np.testing.assert_array_equal(pixels(Sample.of(Image.fromarray(NOISE), "a")), NOISE)


@pytest.mark.parametrize("array", [NOISE.astype(np.float32), NOISE[..., :2], NOISE[:0], NOISE[None]])
def test_other_arrays_are_refused(array):
    with pytest.raises(UnreadableImageError, match="expected uint8"):
        load_image(Sample.of(array, "array"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255  # white in the upper left
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    back = pixels(tmp_path / f"a.{suffix}")
    assert back.shape == upright.shape and np.abs(back.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif", "a.mpo", "a.jp2", "a.heic", "xmp.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_reported_size_is_that_of_the_decoded_image(tmp_path, name, orientation):
    """Otherwise landscape photos would get the grid of portraits."""
    image = Image.new("RGB", (48, 32), (90, 120, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if name == "xmp.png" else {"exif": exif}
    if name == "xmp.png":
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    image.save(tmp_path / name, **options)
    assert size_of(Sample.of(tmp_path / name)) == load_image(tmp_path / name).size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_a_turned_tiff_has_the_size_of_its_pixels(tmp_path, orientation, compression):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (48, 32)).save(tmp_path / "a.tif", exif=exif, compression=compression)
    expected = (32, 48) if orientation > 4 else (48, 32)
    assert size_of(Sample.of(tmp_path / "a.tif")) == load_image(tmp_path / "a.tif").size == expected


def test_a_malformed_exif_block_counts_as_none(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), NOISE)


def test_grey_bilevel_and_palette_images_are_converted(tmp_path):
    grey = NOISE[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    Image.fromarray(grey > 100).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bilevel.png")[..., 0], (grey > 100) * 255)
    palette = Image.fromarray(NOISE).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(pixels(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_by_its_depth_not_by_its_content(tmp_path, suffix):
    values = np.array([[0, 257, 128 * 257, 200 * 257]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}")[0, :, 0], [0, 1, 128, 200])


def test_16_bit_grey_keeps_its_depth_through_an_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[0, :, 0], [255, 1, 0])


def test_12_bit_tiff_is_scaled_by_4095(tmp_path):
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00])  # 0, 4095, 2048, 0 at 12 bits each
    entries = [(256, 3, 4), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 1), (279, 4, 6)]
    body = b"II*\0" + struct.pack("<I", 14) + packed + struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHI4s", tag, kind, 1, struct.pack("<I", v)) for tag, kind, v in entries)
    (tmp_path / "a.tif").write_bytes(body + bytes(4))
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0, :, 0], [0, 255, 128, 0])


def test_float_tiff_is_scaled_by_its_finite_extremes(tmp_path):
    values = np.array([[-2.0, 0.0, 2.0, np.nan, np.inf, -np.inf]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    image = load_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(image)[0, :, 0], [0, 128, 255, 128, 128, 128])
    assert image.info["has_data"].tolist() == [[True, True, True, False, False, False]]
    Image.fromarray(np.full((2, 2), 7.5, np.float32)).save(tmp_path / "constant.tif")
    assert pixels(tmp_path / "constant.tif").max() == 0
    Image.fromarray(np.array([[-100_000, 0, 100_000]], np.int32)).save(tmp_path / "int.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "int.tif")[0, :, 0], [0, 128, 255])


def test_transparency_shows_white(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = [0, 255, 128]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_allclose(pixels(tmp_path / "a.png")[0, :, 0], [255, 0, 127], atol=1)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "p.png", transparency=0)
    assert pixels(tmp_path / "p.png")[0, :, 0].tolist() == [255, 9]


@pytest.mark.parametrize("alpha", ["nothing shown", "one value", "a fourth band", "hardly anything shown"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp"])
def test_fourth_channel_without_opacity_hides_nothing(alpha, suffix, tmp_path):
    """Cameras leave the fourth byte unset, and a fourth band may be infrared light."""
    band = {
        "nothing shown": np.zeros(NOISE.shape[:2]),
        "one value": np.full(NOISE.shape[:2], 40),
        "a fourth band": NOISE[..., 1] // 2 + NOISE[..., 2] // 2,
        "hardly anything shown": np.where(np.arange(NOISE[..., 0].size).reshape(NOISE.shape[:2]) == 7, 90, 0),
    }[alpha]
    photo = Image.fromarray(np.dstack([NOISE, band]).astype(np.uint8))
    if suffix == "webp":
        photo.save(tmp_path / "a.webp", lossless=True, exact=True)
    else:
        photo.save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), NOISE)


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red = pixels(tmp_path / "a.jpg")[4, 4].astype(int)
    assert red[0] > 200 and red[1:].max() < 60


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_many_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), (value,) * 3) for value in (255, 0, 0)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / f"a.{suffix}").min() > 250


def test_a_misnamed_file_is_read_by_its_content(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), NOISE)


def encoded(kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 100, "not an image"),
        (b"<html>no image</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        (raw_png(100_000, 100_000), "more than 179 megapixels; --config.data.max_megapixels=NUMBER"),
        (encoded("PNG")[:1000], "truncated"),
        (encoded("JPEG")[:1000], "truncated"),
        (encoded("BMP")[:1000], "truncated"),
    ],
)
def test_broken_files_are_refused_with_file_and_reason(tmp_path, data, reason):
    (tmp_path / "broken\n.png").write_bytes(data)
    with pytest.raises(UnreadableImageError, match=reason) as error:
        load_image(tmp_path / "broken\n.png")
    assert "broken\\n.png" in str(error.value) and "\n" not in str(error.value)


def test_the_error_about_heic_under_another_name_has_the_command(tmp_path, monkeypatch):
    """The format of phones."""
    (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 60)
    others = tuple(name for name in formats.known_formats() if name != "HEIF")
    monkeypatch.setattr(formats, "known_formats", lambda: others)
    with pytest.raises(UnreadableImageError, match="a HEIC image.*pip install pillow-heif"):
        load_image(tmp_path / "photo.jpg")
    (tmp_path / "movie.jpg").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 60)
    with pytest.raises(UnreadableImageError, match="not an image"):
        load_image(tmp_path / "movie.jpg")


def test_missing_files_directories_pipes_and_nul_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "pipe.png", "a\0.png"):
        with pytest.raises(UnreadableImageError):
            load_image(path)


def test_a_file_without_read_permission_is_refused(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UnreadableImageError, match="Permission denied"):
        load_image(path)


FILES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))), st.integers(0, 9))
def test_damaged_bytes_give_an_image_or_an_unreadable_image(tmp_path_factory, kind, edits, cut):
    data = bytearray(FILES[kind])
    for place, value in edits:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(bytes(data[: len(data) * (10 - cut) // 10]))
    for read in (load_image, lambda p: load_mask(p, 4)):
        try:
            read(path)
        except UnreadableImageError as error:
            assert "fuzzed.png" in str(error)


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000), (3, 7)])
def test_one_pixel_and_extreme_aspects_resize(tmp_path, size):
    image = load_image(write_image(tmp_path / "a.png", 90, size))
    result = Frame.squeezed(28, 4).preprocess(image, "bicubic", (0.0,) * 3, (1.0,) * 3)
    assert result.shape == (28, 28, 3) and result.dtype == np.float32
    np.testing.assert_allclose(result, 90 / 255, rtol=1e-6)


def test_preprocess_normalises_by_channel():
    result = Frame.squeezed(12, 4).preprocess(Image.fromarray(NOISE), "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    resized = np.asarray(Image.fromarray(NOISE).resize((12, 12), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(result, (resized / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4], atol=1e-6)


def test_preprocess_antialiases_when_it_shrinks():
    checker = np.indices((64, 64)).sum(axis=0) % 2 * 255
    result = Frame.squeezed(8, 4).preprocess(
        Image.fromarray(checker.astype(np.uint8)).convert("RGB"), "bilinear", (0.0,) * 3, (1.0,) * 3
    )
    np.testing.assert_allclose(result, 0.5, atol=0.02)


def test_mask_rules_differ_at_the_edge_only(tmp_path):
    path = write_mask(tmp_path / "m.png", box=(10, 10, 31, 31), size=(64, 64))
    nearest, full, some = (load_mask(path, 16, rule) for rule in ("nearest", "full", "any"))
    assert full.sum() < nearest.sum() < some.sum()
    assert not (full & ~nearest).any() and not (nearest & ~some).any()
    bilinear = np.asarray(Image.open(path).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(full, bilinear == 255)
    np.testing.assert_array_equal(some, bilinear > 0)
    with pytest.raises(ValueError, match="nearest, full, any"):
        load_mask(path, 16, "most")


def test_masks_of_any_mode_mean_the_same(tmp_path):
    binary = np.zeros((20, 30), bool)
    binary[4:9, 10:22] = True
    grey = binary.astype(np.uint8)
    rgba = np.dstack([grey * 255] * 3 + [np.full_like(grey, 255)])
    palette = Image.fromarray(grey)
    palette.putpalette([0, 0, 0, 200, 30, 30])
    images = {
        "ones.png": Image.fromarray(grey),
        "bilevel.png": Image.fromarray(binary),
        "deep.png": Image.fromarray(grey.astype(np.uint16)),
        "float.tif": Image.fromarray(grey.astype(np.float32)),
        "rgba.png": Image.fromarray(rgba),
        "palette.png": palette,
        "lossless.webp": Image.fromarray(grey * 255).convert("RGB"),
    }
    for name, image in images.items():
        image.save(tmp_path / name, lossless=True)
        np.testing.assert_array_equal(load_mask(tmp_path / name, None), binary, err_msg=name)
    Image.fromarray(grey * 255).save(tmp_path / "lossy.jpg", quality=95)
    np.testing.assert_array_equal(load_mask(tmp_path / "lossy.jpg", None), binary)
    np.testing.assert_array_equal(load_mask(binary, None), binary)


def test_a_directory_of_masks_is_their_union(tmp_path):
    write_mask(tmp_path / "m/000.png", (0, 0, 2, 2))
    write_mask(tmp_path / "m/001.png", (4, 4, 6, 6))
    assert load_mask(tmp_path / "m", None).sum() == 8
    write_mask(tmp_path / "m/002.png", size=(9, 9))
    with pytest.raises(UnreadableImageError, match="differ in size"):
        load_mask(tmp_path / "m", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableImageError, match="no mask"):
        load_mask(tmp_path / "empty", 8)
