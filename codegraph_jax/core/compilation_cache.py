"""On-disk cache of compiled programs."""

import hashlib
import platform
import tempfile
from pathlib import Path

import jax

from codegraph_jax.core.files import user_cache

MAX_BYTES = 2 * 2**30
"""Size limit of the cache; the least recently used programs are removed."""
MIN_SECONDS = 0.3
"""Programs that compile faster are not cached."""


def enable_compilation_cache() -> None:
    """Turns on JAX's compilation cache in the user's cache directory.

    Does nothing if JAX_COMPILATION_CACHE_DIR or JAX_ENABLE_COMPILATION_CACHE=false is set, or if the directory cannot
    be written.
    """
    set_already, enabled = (
        getattr(jax.config, name) for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    )
    if set_already or not enabled:
        return
    directory = user_cache() / "programs" / machine()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    # an error of the cache must not stop the run
    jax.config.update("jax_raise_persistent_cache_errors", False)


def machine() -> str:
    """A digest of the processor's features: machines that share a home directory need programs of their own."""
    features = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features += platform.platform()
    return hashlib.blake2b(features.encode(), digest_size=6).hexdigest()
