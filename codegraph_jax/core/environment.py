"""The machine and the packages: what a result was made with, and how much memory there is."""

import os
import platform
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"host": peak if sys.platform == "darwin" else peak * 1024}
    for device in jax.local_devices():
        statistics = device.memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            found[str(device)] = statistics["peak_bytes_in_use"]
    return found


def free_memory() -> int:
    """Bytes that this process may still take: what the system has to spare, or its container's limit if less."""
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    free = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    try:
        # on Linux, caches that can be dropped are free as well
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
        cgroup = Path("/sys/fs/cgroup")
        free = min(free, int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        pass  # another system, or no limit
    return max(free, 0)
