"""Processes for tests that kill them: a small program whose compiled functions are kept."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(program: str, *arguments: object, cache: Path, **environment: str) -> subprocess.Popen:
    """Starts Python code on the CPU; compiled functions are kept in `cache` for the next start."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Waits until the process ends with status 0; returns its standard error."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors
