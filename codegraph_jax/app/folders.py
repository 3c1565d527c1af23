"""Folders of this machine: their content, previews, and uploaded photos."""

import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes

import psutil
from fastapi import Body
from pydantic import AfterValidator, BaseModel, Field

from codegraph_jax.app.state import State
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import whole_file
from codegraph_jax.core.names import file_stem, numbered_names, printable
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.formats import is_image_name
from codegraph_jax.data.images import preview, size_of
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import natural_key, subdirectories, walk
from codegraph_jax.scoring.threshold import MIN_PHOTOS

MAX_LISTED = 3
"""Number of folders that a message lists."""
SAMPLED, THUMBNAILS, MAX_ENTRIES = 60, 24, 5000
"""Photos whose sizes are read, pictures of a folder, and entries that are counted in a subfolder."""
MAX_PHOTO_BYTES, MAX_UPLOADED_FILES, MAX_UPLOAD_FOLDERS = 200 * 2**20, 20_000, 10_000
"""Limits for uploads: the size of a photo, the number of photos, and the number of folders of one name."""
CACHED_PREVIEWS, PREVIEW_SIDES = 600, (256, 1024)


def encode_path(path: str) -> str:
    """A path as ASCII text, byte for byte: the `place` in requests and responses of the app."""
    return quote(os.fsencode(path), safe="/:")


def decode_path(place: str) -> str:
    """The path of a `place`, the inverse of `encode_path`."""
    return os.fsdecode(unquote_to_bytes(place))


def _valid(text: str) -> str:
    """The text, if it can be stored, printed and passed to a process."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("contains a character that is not valid text")
    return text


ValidText = Annotated[str, AfterValidator(_valid)]


Name = Annotated[ValidText, Body(embed=True, max_length=200)]
"""A name that the user has typed; the field of the request is called like the parameter."""


class FolderInput(BaseModel):
    """A folder: the `path` that the user has typed, or its `place` (`encode_path`)."""

    path: ValidText = Field("", max_length=4096)
    place: ValidText = Field("", max_length=16_384)

    @property
    def folder(self) -> str:
        """The path of the folder."""
        return decode_path(self.place) if self.place else self.path


class Folders:
    """The folders that the user has opened; photos elsewhere are not read."""

    def __init__(self, state: State, uploads: Path):
        self.state, self.uploads = state, uploads

    def roots(self) -> list[dict[str, str]]:
        """Places to start from: the user's home, pictures, drives and the working directory."""
        home = Path.home()
        found = [home, *(home / name for name in ("Pictures", "Bilder", "Desktop")), Path.cwd()]
        with suppress(Exception):  # psutil raises many kinds of errors in containers
            mounts = [disk.mountpoint for disk in psutil.disk_partitions() if disk.fstype not in ("", "squashfs")]
            found += [
                Path(mount) for mount in mounts if mount.startswith(("/media", "/mnt", "/Volumes")) or mount[1:2] == ":"
            ]
        known = dict.fromkeys(str(path) for path in found if path.is_dir())
        return [{"place": encode_path(path), "name": printable(path)} for path in known]

    def open(self, wanted: FolderInput) -> dict[str, Any]:
        """Opens a folder; returns its subfolders, each with the number of photos directly in it.

        Raises:
            UserError: it is not a folder that can be listed.
        """
        if not wanted.folder:
            raise UserError("no folder is named; type its path or choose one")
        path = os.path.abspath(os.path.expanduser(wanted.folder))  # noqa: PTH100, PTH111  (bytes that are not UTF-8)
        if not os.path.isdir(path):  # noqa: PTH112  (false for names that are too long or not readable)
            raise UserError(f"{printable(path)!r} is not a folder on this computer; check the spelling")
        try:
            photos = _photos_in(path)
            folders = [self._subfolder(path, name) for name in subdirectories(path)[:MAX_ENTRIES]]
        except OSError as error:
            raise UserError(f"{printable(path)!r} cannot be opened ({error.strerror or error})") from None
        self.state.remember_folder(path)
        parent = str(Path(path).parent)
        return {
            "place": encode_path(path), "parent": encode_path(parent) if parent != path else None,
            "name": printable(path), "photos": len(photos), "folders": folders,
        }  # fmt: skip

    def _subfolder(self, path: str, name: str) -> dict[str, Any]:
        folder = str(Path(path) / name)
        try:
            photos = _photos_in(folder)
        except OSError:
            return {"place": encode_path(folder), "name": printable(name), "photos": None, "first": None}
        first = encode_path(str(Path(folder) / min(photos, key=natural_key))) if photos else None
        return {"place": encode_path(folder), "name": printable(name), "photos": len(photos), "first": first}

    def contents(self, wanted: FolderInput) -> dict[str, Any]:
        """The photos below a folder, as a run would find them: number, sizes, skipped files and some pictures.

        Raises:
            UserError: it is not an opened folder, or cannot be listed.
        """
        path = wanted.folder
        self.require_opened(path)
        photos, skipped = walk(path)
        files = list(photos.values())
        sample = [files[i * len(files) // min(SAMPLED, len(files))] for i in range(min(SAMPLED, len(files)))]
        sizes = [(file, size_of(Sample.of(file))) for file in sample]
        count = Counter(size for _, size in sizes)
        refused = [f"cannot be listed: {printable(folder)}" for folder in skipped.cannot_be_listed[:MAX_LISTED]]
        return {
            "photos": len(files), "sampled": len(sample),
            "sizes": [{"width": s[0], "height": s[1], "count": number} for s, number in count.most_common(4) if s],
            "several_sizes": len({*count} - {None}), "unreadable": count[None],
            "skipped": [*skipped.lines(all_suffixes=True), *refused],
            "enough": len(files) >= MIN_PHOTOS,
            "folders": len({name.rpartition("/")[0] for name in photos}),
            "thumbnails": [
                {"place": encode_path(file), "name": printable(Path(file).name), "size": size}
                for file, size in sizes[:: max(1, -(-len(sizes) // THUMBNAILS))]
            ],
        }  # fmt: skip

    def require_opened(self, path: str) -> Path:
        """The real path of a file or folder.

        Raises:
            UserError: it is not below a folder that the user has opened.
        """
        with suppress(OSError, ValueError):
            real = Path(os.path.realpath(path))
            if any(real.is_relative_to(os.path.realpath(folder)) for folder in self.state.folders()):
                return real
        raise UserError(f"{printable(path)!r} is not below a folder that you have opened")

    def preview(self, path: str, side: int) -> bytes:
        """A photo as a small JPEG.

        Raises:
            UserError: the file is not a photo in an opened folder, or cannot be decoded.
        """
        real = self.require_opened(path)
        if not is_image_name(real.name):
            raise UserError(f"{printable(path)!r} is not a photo")
        return self.small_jpeg(real, side)

    def small_jpeg(self, path: Path, side: int) -> bytes:
        """A small JPEG of a file that the caller has checked."""
        side = next((known for known in PREVIEW_SIDES if known >= side), PREVIEW_SIDES[-1])
        try:
            return _cached_preview(str(path), path.stat().st_mtime_ns, side)
        except (OSError, UnreadableImageError) as error:
            raise UserError(f"{printable(str(path))!r} cannot be shown: {error}") from None

    def new_upload(self, name: Name) -> dict[str, str]:
        """A new folder for photos that are uploaded."""
        stem = file_stem(name or "photos")
        for free in islice(numbered_names(stem), MAX_UPLOAD_FOLDERS):
            path = self.uploads / free
            with suppress(FileExistsError):
                path.mkdir(parents=True)
                self.state.remember_folder(str(path))
                return {"place": encode_path(str(path)), "name": path.name}
        raise UserError(f"there are too many folders {stem!r}; delete some of them in {printable(str(self.uploads))}")

    async def receive(self, folder: str, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Saves an uploaded photo.

        Raises:
            UserError: it is not a photo by its name, or too large, or there are too many.
        """
        target = self.uploads / folder
        name = name.replace("\\", "/").rpartition("/")[2]
        if folder in ("", ".", "..") or "/" in folder or "\\" in folder or not os.path.isdir(target):  # noqa: PTH112
            raise UserError(f"no folder for uploads is called {folder!r}")
        if not is_image_name(name) or printable(name) != name or len(os.fsencode(name)) > 200:
            raise UserError(f"{printable(name)!r} is not the name of a photo")
        if sum(1 for _ in target.iterdir()) >= MAX_UPLOADED_FILES:
            raise UserError(f"a folder takes at most {MAX_UPLOADED_FILES} uploaded photos; choose a folder instead")
        if shutil.disk_usage(target).free < 2 * MAX_PHOTO_BYTES:
            raise UserError("the disk is full; choose the folder of the photos instead")
        paths = (target / f"{stem}{Path(name).suffix}" for stem in numbered_names(Path(name).stem))
        path = next(path for path in paths if not path.exists())
        with whole_file(path) as temporary:
            with Path(temporary).open("wb") as stream:
                size = 0
                async for piece in pieces:
                    size += len(piece)
                    if size > MAX_PHOTO_BYTES:
                        raise UserError(f"{name}: is larger than {MAX_PHOTO_BYTES >> 20} MB; choose its folder instead")
                    stream.write(piece)
            if not size:
                raise UserError(f"{name}: is empty")


@lru_cache(CACHED_PREVIEWS)
def _cached_preview(path: str, changed: int, side: int) -> bytes:
    """A small JPEG of a file; `changed`, the time of its last change, keeps the cache up to date."""
    return preview(path, side)


def _photos_in(path: str) -> list[str]:
    """Names of the photos directly in a folder; at most `MAX_ENTRIES` entries are looked at."""
    with os.scandir(path) as entries:
        return [entry.name for entry in islice(entries, MAX_ENTRIES) if is_image_name(entry.name)]
