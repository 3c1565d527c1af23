"""The supported image formats: those for photos that Pillow decodes by itself, and HEIC if pillow-heif is installed."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePath

from PIL import Image

from codegraph_jax.core.installing import install_command

with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()

FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "PCX", "SGI", "SUN", "QOI",
    "PSD", "DDS", "FITS",
)  # fmt: skip
"""Formats that are detected by the content of a file. Other formats of Pillow call external programs (EPS), are stubs
(HDF5), or are not used for photos (icons)."""
FORMAT_BY_SUFFIX = {".tga": "TGA"}
"""Formats without a signature, which are detected by the suffix."""

EXTRA = frozenset({".heic", ".heif", ".hif"})
"""Suffixes that need the optional package pillow-heif."""
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
"""Brands of HEIC files, after the first eight bytes (ISO/IEC 23008-12, annex B)."""
RAW = frozenset({".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"})
PICTURES = RAW | EXTRA | {".ai", ".bpg", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".jxr", ".pdf", ".svg", ".wdp"}
"""Suffixes of images that cannot be read."""


@lru_cache
def known_formats() -> tuple[str, ...]:
    """The `FORMATS` that this installation can decode."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@lru_cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of image files, in lower case with a dot."""
    # MPO is opened as JPEG
    known = {*known_formats(), "MPO"}
    return frozenset(
        {suffix for suffix, name in Image.registered_extensions().items() if name in known} | {*FORMAT_BY_SUFFIX}
    )


def formats_of(path: str) -> tuple[str, ...]:
    """The formats that Pillow tries for a file."""
    by_suffix = FORMAT_BY_SUFFIX.get(PurePath(path).suffix.lower())
    return (*known_formats(), by_suffix) if by_suffix else known_formats()


def is_image_name(name: str) -> bool:
    """Whether a file name is that of an image; hidden files (`._001.jpg`) are not."""
    return PurePath(name).suffix.lower() in image_suffixes() and not name.startswith(".")


def lacking_package(path: str) -> str:
    """The command that installs support for a file with HEIC content; empty for other files."""
    if "HEIF" in known_formats():
        return ""
    with open(path, "rb") as stream:  # noqa: PTH123
        beginning = stream.read(64)
    heic = beginning[4:8] == b"ftyp" and any(brand in beginning for brand in HEIC_BRANDS)
    return install_command(["pillow-heif"]) if heic else ""


def listed_suffixes(suffixes: Mapping[str, int]) -> str:
    """`5 .heic (pip install pillow-heif), 2 .txt`: counts by suffix, most frequent first, with advice."""
    parts = []
    for suffix, count in sorted(suffixes.items(), key=lambda item: (-item[1], item[0])):
        heic = install_command(["pillow-heif"]) if suffix in EXTRA else ""
        hint = heic or ("convert to tif or png" if suffix in RAW else "")
        parts.append(f"{count} {suffix or 'without suffix'}{f' ({hint})' if hint else ''}")
    return ", ".join(parts)
