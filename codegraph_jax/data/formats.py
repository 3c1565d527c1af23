"""Which files are images: what Pillow decodes within this process, and HEIC where pillow-heif is installed."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePath

from PIL import Image

with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()

FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "PCX", "SGI", "SUN", "QOI",
    "PSD", "DDS", "FITS",
)  # fmt: skip
"""Formats that are told by a file's content, whatever its name. Of Pillow's others some call outside programs (EPS),
some are only announced by it (HDF5), and some hold no photographs (icons)."""
BY_NAME = {".tga": "TGA"}
"""Formats without a mark of their own: content of any kind could be taken for one, so the name has to say it."""

EXTRA = {suffix: "pip install pillow-heif" for suffix in (".heic", ".heif", ".hif")}
"""Suffixes that a package opens which is not required, and the command."""
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
"""What a HEIC file says of itself behind its first eight bytes (ISO/IEC 23008-12, annex B)."""
RAW = frozenset({".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"})
PICTURES = RAW | EXTRA.keys() | {".ai", ".bpg", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".jxr", ".pdf", ".svg", ".wdp"}
"""Suffixes of pictures that are not read as things stand."""


@lru_cache
def known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this installation decodes."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@lru_cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case with a dot, of the files that count as images."""
    # MPO is opened as JPEG
    known = {*known_formats(), "MPO"}
    return frozenset({suffix for suffix, name in Image.registered_extensions().items() if name in known} | {*BY_NAME})


def formats_of(path: str) -> tuple[str, ...]:
    """What Pillow is to try with a file."""
    by_name = BY_NAME.get(PurePath(path).suffix.lower())
    return (*known_formats(), by_name) if by_name else known_formats()


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image; hidden files (`._001.jpg`) do not."""
    return PurePath(name).suffix.lower() in image_suffixes() and not name.startswith(".")


def lacking_package(path: str) -> str:
    """The command that lets a file be read whose content, whatever its name, is HEIC; empty for any other."""
    if "HEIF" in known_formats():
        return ""
    with open(path, "rb") as stream:  # noqa: PTH123
        beginning = stream.read(64)
    return EXTRA[".heic"] if beginning[4:8] == b"ftyp" and any(brand in beginning for brand in HEIC_BRANDS) else ""


def listed_suffixes(suffixes: Mapping[str, int]) -> str:
    """`5 .heic (pip install pillow-heif), 2 .txt`: files by suffix, the most frequent first, and what to do."""
    parts = []
    for suffix, count in sorted(suffixes.items(), key=lambda item: (-item[1], item[0])):
        hint = EXTRA.get(suffix) or ("convert to tif or png" if suffix in RAW else "")
        parts.append(f"{count} {suffix or 'without suffix'}{f' ({hint})' if hint else ''}")
    return ", ".join(parts)
