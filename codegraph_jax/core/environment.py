"""The machine and the packages: what a result was made with, and how much memory there is."""

import os
import platform
import shlex
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


_command = ""


def remember_command(words: Sequence[str]) -> None:
    """Keeps the command that started this process, as it was typed, for the record of its results."""
    global _command
    _command = shlex.join(words)


def command_line() -> str:
    """The command that started this process; empty where the library is used without one."""
    return _command


def require_devices() -> None:
    """Makes JAX find its devices.

    Raises:
        UserError: there are none of the platform that was asked for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a word, where CUDA was asked for
        reason = (str(error).splitlines() or ["its plugin is not installed"])[0].partition(" (set JAX_PLATFORMS")[0]
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        if not asked:
            raise UserError(f"JAX finds no device: {reason}; JAX_PLATFORMS=cpu computes on the processor") from error
        raise UserError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device ({reason}); leave JAX_PLATFORMS out, or set it to cpu"
        ) from error


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
