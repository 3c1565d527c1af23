"""Information about the machine and the installed packages, for manifests and memory limits."""

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import psutil

from codegraph_jax.core.errors import UserError

PACKAGES = ("codegraph-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "networkx", "Pillow")
MAX_DECODING_THREADS = 8
"""Each thread may hold a whole photo."""


def require_devices() -> None:
    """Initialises JAX's devices.

    Raises:
        UserError: JAX finds no device of the requested platform.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: JAX_PLATFORMS=cuda without the CUDA plugin
        reason = (str(error).splitlines() or ["its plugin is not installed"])[0].partition(" (set JAX_PLATFORMS")[0]
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        if not platforms:
            raise UserError(f"JAX finds no device: {reason}; set JAX_PLATFORMS=cpu to use the CPU") from error
        raise UserError(
            f"JAX_PLATFORMS={platforms}: JAX finds no such device ({reason}); unset JAX_PLATFORMS, or set it to cpu"
        ) from error


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; `not installed` if a package is not."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def device_summary() -> dict[str, Any]:
    """Platform, kind and number of the devices."""
    devices = jax.devices()
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def peak_memory() -> dict[str, int]:
    """Peak memory in bytes: resident memory of the host, and of each device that reports it."""
    peaks = {"host": _peak_resident()}
    for device in jax.local_devices():
        statistics = device.memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            peaks[str(device)] = statistics["peak_bytes_in_use"]
    return peaks


def free_memory() -> int:
    """Bytes that this process may still allocate, by the system's free memory and the container's limit."""
    # "available" includes caches that the system can drop
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # not Linux, or no limit
        cgroup = Path("/sys/fs/cgroup")
        free = min(free, int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    return max(free, 0)


def _peak_resident() -> int:
    """Peak resident memory of this process in bytes."""
    try:
        import resource  # noqa: PLC0415  not available on Windows
    except ImportError:
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_threads() -> int:
    """Number of threads that decode photos: one per core, and at most `MAX_DECODING_THREADS`."""
    return min(usable_cores(), MAX_DECODING_THREADS)


def device_bytes(devices: Sequence[jax.Device]) -> int:
    """Memory in bytes of the smallest of some local devices; 0 if it is not known."""
    return min(int((device.memory_stats() or {}).get("bytes_limit", 0)) for device in devices)
