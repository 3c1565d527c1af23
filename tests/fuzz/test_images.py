"""Decoders: real files of every format with damaged headers."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.masks import load_mask
from tests.support.damage import BUDGET, EDITS, damaged

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
EXIF = Image.Exif()
EXIF[0x0112] = 6


def encoded(kind, mode="RGB", **options):
    image = Image.fromarray(NOISE).convert("RGB")
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(NOISE[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    elif mode == "RGBA":
        image = Image.fromarray(NOISE)
    else:
        image = image.convert(mode)
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


FRAMES = {"save_all": True, "append_images": [Image.fromarray(NOISE[::-1, :, :3].copy())]}
FILES = {
    "png": encoded("PNG", exif=EXIF),
    "png16": encoded("PNG", "I;16"),
    "palette": encoded("PNG", "P", transparency=3),
    "apng": encoded("PNG", **FRAMES),
    "jpeg": encoded("JPEG", exif=EXIF),
    "progressive": encoded("JPEG", progressive=True),
    "cmyk": encoded("JPEG", "CMYK"),
    "bmp": encoded("BMP"),
    "bmp1": encoded("BMP", "1"),
    "tiff": encoded("TIFF", exif=EXIF),
    "lzw": encoded("TIFF", compression="tiff_lzw"),
    "deflate": encoded("TIFF", compression="tiff_adobe_deflate"),
    "fax": encoded("TIFF", "1", compression="group4"),
    "float": encoded("TIFF", "F"),
    "pages": encoded("TIFF", **FRAMES),
    "webp": encoded("WEBP", exif=EXIF),
    "lossless": encoded("WEBP", "RGBA", lossless=True),
    "animated": encoded("WEBP", **FRAMES),
    "gif": encoded("GIF", **FRAMES),
    "ppm": encoded("PPM"),
    "pgm": encoded("PPM", "I;16"),
    "pbm": encoded("PPM", "1"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("images") / "fuzzed.png"


@pytest.mark.parametrize("kind", sorted(FILES))
@BUDGET
@given(edits=EDITS, keep=st.integers(1, 10), near=st.sampled_from([0, 40, 120, 400]))
def test_damaged_images_are_read_or_refused(path, kind, edits, keep, near):
    path.write_bytes(damaged(FILES[kind], edits, keep, near))
    for read in (load_image, lambda file: load_mask(file, 8)):
        try:
            read(path)
        except UnreadableImageError as error:
            assert "fuzzed.png" in str(error) and "\n" not in str(error)


@BUDGET
@given(st.sampled_from(sorted(FILES)), st.binary(max_size=60))
def test_noise_behind_a_real_beginning_is_read_or_refused(path, kind, noise):
    path.write_bytes(FILES[kind][:12] + noise)
    try:
        load_image(path)
    except UnreadableImageError as error:
        assert "fuzzed.png" in str(error)
