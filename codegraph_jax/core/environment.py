"""The machine and the packages: what a result was made with, and how much memory there is."""

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

PACKAGES = ("codegraph-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "scikit-learn", "networkx", "Pillow")


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Version of Python and of the packages that numbers depend on; a checkout may run without being installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def device_summary() -> dict[str, Any]:
    """Platform, kind and number of the devices."""
    devices = jax.devices()
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def peak_memory() -> dict[str, int]:
    """Greatest memory in bytes: resident on the host, and of each device that tells."""
    found = {"host": _peak_resident()}
    for device in jax.local_devices():
        statistics = device.memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            found[str(device)] = statistics["peak_bytes_in_use"]
    return found


def free_memory() -> int:
    """Bytes that this process may still take: what the system has to spare, or its container's limit if less."""
    # caches that can be dropped are free as well
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # another system, or no limit
        cgroup = Path("/sys/fs/cgroup")
        free = min(free, int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    return max(free, 0)


def _peak_resident() -> int:
    """Greatest resident memory of this process in bytes."""
    try:
        import resource  # noqa: PLC0415  Windows has none, and counts the peak among a process's figures
    except ImportError:
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_bytes(devices: Sequence[jax.Device]) -> int:
    """The memory of the smallest of some devices of this process; 0 where it is not known."""
    return min(int((device.memory_stats() or {}).get("bytes_limit", 0)) for device in devices)
