"""Compiled programs kept on disk, so that the next start of a task does not compile them again."""

import hashlib
import os
import platform
import tempfile
from pathlib import Path

import jax

MOST_BYTES = 2 * 2**30
"""Programs that have not been used for longest are removed beyond that."""
LEAST_SECONDS = 0.3
"""Programs that compile faster are not worth a file."""


def keep_programs() -> None:
    """Turns JAX's compilation cache on, in the user's cache directory.

    Whoever has set JAX_COMPILATION_CACHE_DIR, or JAX_ENABLE_COMPILATION_CACHE=false, is left alone; so is a directory
    that cannot be written.
    """
    place_set, enabled = (
        getattr(jax.config, name) for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    )
    if place_set or not enabled:
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    place = home / "codegraph-jax" / "programs" / machine()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    # a cache that fails is no reason to fail
    jax.config.update("jax_raise_persistent_cache_errors", False)


def machine() -> str:
    """A name for machines of one kind: homes are shared by several, and programs use what the processor can do."""
    features = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features += platform.platform()
    return hashlib.blake2b(features.encode(), digest_size=6).hexdigest()
