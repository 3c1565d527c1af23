"""Writing a file so that nobody ever reads half of it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"
"""Names of files that are being written begin so."""


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yields the name of a new file beside `path`; it takes `path`'s place when the block ends without an error.

    Directories that are missing are made. The temporary file keeps the suffix, since writers choose by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield name
        # mkstemp makes the file private; what a plain open() would give is what people expect of results
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
