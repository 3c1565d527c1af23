"""The command that installs packages into this environment, for error messages.

This project is on no package index, so `pip install 'codegraph-jax[app]'` does not work everywhere: the command names
the packages of an extra instead.
"""

import importlib.util
import shutil
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
"""Exists only in a checkout."""


def needed() -> list[str]:
    """The requirements of this project without extras, in pip's syntax."""
    if PROJECT.is_file():
        lines = PROJECT.with_name("requirements.txt").read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not line.startswith("#")]
    return [text for text in requires("codegraph-jax") or () if "extra ==" not in text]


def extra(name: str) -> list[str]:
    """The requirements of an extra of this project, in pip's syntax."""
    if PROJECT.is_file():
        return list(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"][name])
    entries = [text.partition(";") for text in requires("codegraph-jax") or ()]
    return [needed.strip() for needed, _, marker in entries if f'extra == "{name}"' in marker.replace("'", '"')]


def install_command(requirements: Sequence[str], options: str = "") -> str:
    """The shell command that installs packages into this environment."""
    packages = " ".join(f'"{r}"' if set(r) & set("<>=[ ") - {"="} else r for r in requirements)
    words = " ".join(word for word in (options, packages) if word)
    prefix = Path(sys.prefix)
    if "pipx" in prefix.parts:
        return f"pipx runpip {prefix.name} install {words}"
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {_quoted(sys.executable)} {words}"
    pip_script, scripts = shutil.which("pip"), prefix / ("Scripts" if sys.platform == "win32" else "bin")
    if pip_script and Path(pip_script).parent.resolve() == scripts.resolve():
        return f"pip install {words}"
    return f"{_quoted(sys.executable)} -m pip install {words}"


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
