"""What a result was made with: enough to repeat the run."""

import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

PACKAGES = ("codegraph-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "scikit-learn", "networkx", "Pillow")


def package_versions() -> dict[str, str]:
    """Version of Python and of every package that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
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
