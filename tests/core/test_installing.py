"""Install commands in messages install the missing package, however the project was installed."""

import re
import sys

import pytest

from codegraph_jax.core import installing
from codegraph_jax.core.errors import MissingPackageError
from codegraph_jax.core.installing import extra, install_command, needed


def test_install_commands_name_packages():
    message = str(MissingPackageError("serve", "fastapi", "app"))
    assert "codegraph-jax[" not in message
    for requirement in extra("app"):
        assert f'"{requirement}"' in message
    assert message.startswith("serve needs the package fastapi, which is not installed: ")


def test_an_installed_package_reads_its_own_metadata(monkeypatch, tmp_path):
    monkeypatch.setattr(installing, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(
        installing, "requires", lambda name: ["jax>=0.10", 'fastapi>=0.115; extra == "app"', "x>=1; extra == 'heic'"]
    )
    assert extra("app") == ["fastapi>=0.115"]
    assert extra("heic") == ["x>=1"]
    assert needed() == ["jax>=0.10"]


def test_a_clone_reads_its_own_requirements():
    assert any(requirement.startswith("jax>=") for requirement in needed())
    assert not [requirement for requirement in needed() if not re.match(r"\w[\w-]*[><=]", requirement)]


@pytest.mark.parametrize(
    "prefix,pip,path,command",
    [
        ("/env", True, "/env/bin/pip", 'pip install "a>=1" b==2'),
        ("/env", True, "/usr/bin/pip", '/env/bin/python -m pip install "a>=1" b==2'),
        ("/env", True, None, '/env/bin/python -m pip install "a>=1" b==2'),
        ("/env", False, None, 'uv pip install --python /env/bin/python "a>=1" b==2'),
        ("/home/me/.local/pipx/venvs/codegraph-jax", True, None, 'pipx runpip codegraph-jax install "a>=1" b==2'),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="paths of Unix")
def test_the_command_is_of_the_environment_that_runs(prefix, pip, path, command, monkeypatch):
    monkeypatch.setattr(installing.sys, "prefix", prefix)
    monkeypatch.setattr(installing.sys, "executable", f"{prefix}/bin/python")
    monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: object() if pip else None)
    monkeypatch.setattr(installing.shutil, "which", lambda name: path)
    assert install_command(["a>=1", "b==2"]) == command
