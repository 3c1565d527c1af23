"""Moves the report of other photos to a dated directory below `earlier/` before a new report replaces it.

The ten newest reports are kept there. A new run on the same photos replaces their report. Photos are the same if the
names, sizes and modification times of their files are.
"""

import re
import time
from collections.abc import Collection, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from codegraph_jax.core.file_ownership import move_written, remove_written, written_files
from codegraph_jax.core.files import read_json
from codegraph_jax.core.names import numbered_names, printable
from codegraph_jax.report.result_files import MANIFEST

EARLIER = "earlier"
MAX_KEPT = 10
"""Number of reports that are kept."""


def digest_of_photos(files: Iterable[tuple[str, str]], with_times: bool = True) -> str:
    """A digest that identifies the photos of a run.

    Args:
        files: (name, path) of each photo.
        with_times: whether the digest includes modification times; sets that the program draws are rewritten with the
            same content by every run.
    """
    digest = blake2b(digest_size=16)
    for name, path in files:
        try:
            status = Path(path).stat()
            facts = f"{status.st_size} {status.st_mtime_ns if with_times else 0}"
        except (OSError, ValueError):
            facts = "unreadable"
        digest.update(f"{name}\0{facts}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def keep_earlier(workdir: Path, photos_digest: str, excluded: Collection[str] = ()) -> str:
    """Moves the finished report of other photos to `earlier/`, and removes all but the newest reports there.

    Args:
        workdir: locked by this run.
        photos_digest: `digest_of_photos` of the photos of this run.
        excluded: POSIX paths below the workdir of files of this run, which stay.

    Returns:
        A message that names the new directory; empty if nothing was moved.
    """
    file = workdir / MANIFEST
    try:
        manifest = read_json(file)
        if not isinstance(manifest, dict) or manifest.get("photos_digest") == photos_digest:
            return ""
    except (OSError, ValueError):
        return ""
    stated = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(manifest.get("date")))
    date = stated.group() if stated else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(file.stat().st_mtime))
    name = date.replace("T", "_").replace(":", "")
    target = next(path for free in numbered_names(name) if not (path := workdir / EARLIER / free).exists())
    written = {Path(path).as_posix() for path in written_files(workdir)} - {MANIFEST, *excluded}
    move_written(workdir, target, sorted(written), last=MANIFEST)
    kept = sorted(path for path in (workdir / EARLIER).iterdir() if path.is_dir() and written_files(path))
    for oldest in kept[:-MAX_KEPT]:
        remove_written(oldest)
    return f"the report on {_photos_folder(manifest)} from {date.replace('T', ' ')} was moved to {target}"


def _photos_folder(manifest: dict[str, Any]) -> str:
    """The folder with the photos of an earlier run."""
    try:
        return printable(str(manifest["config"]["data"]["root"])) or "other photos"
    except (KeyError, TypeError):
        return "other photos"
