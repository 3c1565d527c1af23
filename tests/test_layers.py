"""The layers: a package imports only lower ones (CONTRIBUTING.md has the map)."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegraph_jax.commands.registry import COMMANDS, TASKS
from tests.support import ROOT

LAYERS = (
    "core",
    "config",
    "data",
    "distributed",
    "backbones",
    "features",
    "similarity",
    "scoring",
    "consistency",
    "bank",
    "result",
    "detector",
    "evaluation",
    "resume",
    "report",
    "line",
    "tasks",
    "app",
    "commands",
)
"""Packages and single modules of codegraph_jax, the lowest layer first: each may import those before it."""
SHARED = {"core", "data", "distributed"}
"""The packages that contrastive_jax may import."""
MEASURING = ("benchmarks", "studies")
"""The packages of a clone, which may import both."""
LOOSE = {"__init__.py", "__main__.py", "py.typed", "detector.py", "result.py", "config.py"}


def imports(package: str) -> Iterator[tuple[Path, str]]:
    """(file, module of this project that it imports), also for imports inside functions."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] in ("codegraph_jax", "contrastive_jax", *MEASURING, "tests") and len(parts) > 1:
                    yield file.relative_to(ROOT), name


def layer(module: str) -> str:
    return module.split(".")[1]


def test_top_level_modules_are_detector_result_and_config():
    here = ROOT / "codegraph_jax"
    assert {path.name for path in here.iterdir() if path.is_file()} == LOOSE
    packages = {path.name for path in here.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages | {name.removesuffix(".py") for name in LOOSE if name.endswith(".py") and name[0] != "_"} == set(
        LAYERS
    )


def test_imports_run_downwards():
    upwards = []
    for file, module in imports("codegraph_jax"):
        if file in (Path("codegraph_jax/__init__.py"), Path("codegraph_jax/__main__.py")):
            continue
        here = file.parts[1].removesuffix(".py")
        if not module.startswith("codegraph_jax") or LAYERS.index(layer(module)) > LAYERS.index(here):
            upwards.append(f"{file} imports {module}")
    assert not upwards


def test_trainer_imports_only_shared_packages():
    used = [(file, module) for file, module in imports("contrastive_jax") if not module.startswith("contrastive_jax")]
    assert not [f"{file} imports {module}" for file, module in used if layer(module) not in SHARED]
    assert used


def test_helpers_of_tests_lie_in_support_or_in_the_package_that_uses_them():
    used = [(file, module) for file, module in imports("tests") if module.startswith("tests.")]
    assert not [f"{file} imports {module}" for file, module in used if layer(module) not in ("support", file.parts[1])]
    assert not [f"{file} imports {module}" for file, module in used if ".test_" in module]
    assert used


@pytest.mark.parametrize("package", MEASURING)
def test_benchmarks_and_studies_import_no_commands(package):
    used = [(file, module) for file, module in imports(package) if file.name != "command.py"]
    assert not [f"{file} imports {module}" for file, module in used if layer(module) == "commands"]


@pytest.mark.parametrize("command", TASKS.values(), ids=lambda command: command.task)
def test_every_task_has_a_module_that_runs_it(command):
    assert callable(importlib.import_module(command.module).run)
    assert command.module.rpartition(".")[0] in ("codegraph_jax.tasks", "contrastive_jax.tasks", *MEASURING)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_runs_a_task_or_a_function(command):
    module, _, function = command.entry_point.partition(":")
    assert callable(getattr(importlib.import_module(module), function)) if module else command.module


def test_each_task_has_one_command_that_messages_name():
    tasks = [command.task for command in COMMANDS.values() if command.module and command.names_task]
    assert len(tasks) == len(TASKS) and TASKS["detect"].name == "detect"
