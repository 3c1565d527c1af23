"""The README's commands, in environments made by its instructions, outside of the tested checkout.

Each environment is installed from the package index, in a minute. `make test-installs` runs two of them, one
for each way to install; `make test-all` all of them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
OLDEST = (3, 11)


def pythons():
    """The oldest supported Python and the newest installed one, by version."""
    homes = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep)]
    homes += [*(Path.home() / ".pyenv" / "versions").glob("3.*/bin")]
    found = [(sys.version_info[:2], Path(sys.executable).resolve())]
    for home in homes:
        for path in home.glob("python3.*"):
            if match := re.fullmatch(r"python3\.(\d+)", path.name):
                found.append(((3, int(match[1])), path))
    usable: dict[tuple[int, int], Path] = {}
    for version, path in found:
        # a command on the path may exist although its version is not installed
        if version >= OLDEST and version not in usable and _starts(path):
            usable[version] = path
    return {version: usable[version] for version in (min(usable), max(usable))}


def _starts(python):
    try:
        return subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


PYTHONS = pythons()
OLD, NEW = min(PYTHONS), max(PYTHONS)


def combinations():
    for way in ("wheel", "requirements"):
        for version in PYTHONS:
            chosen = version == (NEW if way == "wheel" else OLD)
            marks = [pytest.mark.installs] if chosen else [pytest.mark.installs, pytest.mark.slow]
            yield pytest.param(way, version, marks=marks, id=f"{way}-{version[0]}.{version[1]}")


@pytest.fixture
def clone(tmp_path):
    """A directory with only a clone of the project."""
    home = tmp_path / "project"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    return home


def run(command, environment, place):
    """Runs a command line of the README in bash."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(environment)}
    ended = subprocess.run(
        ["bash", "-c", command], cwd=place, env=variables, capture_output=True, text=True, timeout=1200
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout


def start_commands():
    """The first block of commands: install and run the demo."""
    block = re.search(r"## Start.*?```bash\n(.*?)```", README, re.DOTALL)
    return block[1].strip().splitlines()


def shown_after_the_demo():
    """The words of the last lines of the demo by docs/commands.md; its lines are wrapped, as in a terminal."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    return re.search(r"`codegraph demo`:\n\n```text\n(.*?)```", page, re.DOTALL)[1].split()


@pytest.mark.parametrize("way,version", list(combinations()))
def test_the_commands_of_the_readme_work_in_its_own_environment(way, version, clone, tmp_path):
    environment, outside = tmp_path / "env", tmp_path / "outside"
    outside.mkdir()
    subprocess.run([PYTHONS[version], "-m", "venv", str(environment)], check=True, timeout=300)
    if way == "wheel":
        *install, demo = start_commands()
        for command in install:
            run(command, environment, clone)
        shutil.rmtree(clone)
        assert demo == "codegraph demo"
        said = run(demo, environment, outside)
        shown = shown_after_the_demo()
        for expected, word in zip(shown, said.split()[-len(shown) :], strict=True):
            assert word == expected or abs(float(word) - float(expected)) < 0.5, said
        assert (outside / "runs" / "demo" / "report.html").is_file()
        (packages,) = environment.glob("lib/python3.*/site-packages")
        assert not (packages / "configs").exists() and not (packages / "main.py").exists()
        assert "ready: codegraph detect /my/photos" in run("codegraph doctor", environment, outside)
        listed = run("codegraph --help", environment, outside)
        assert "Measurements:" not in listed and "Research:" not in listed
        assert "run only from a clone of the repository" in run(
            "codegraph benchmark 2>&1 || true", environment, outside
        )
        return
    assert "`pip install -r requirements.txt`" in README
    run("pip install -r requirements.txt", environment, clone)
    assert "`codegraph train --config=oecl_demo`" in README
    train = "python main.py --config=configs/oecl_demo.py --config.train.epochs=2"
    assert "auroc" in run(train, environment, clone).lower()
    small = " --config.precisions=float32 --config.repeats=1 --config.torch=False"
    assert "pairs/s" in run("python -m codegraph_jax benchmark --config=benchmark:kernel" + small, environment, clone)
    assert "\nready: codegraph detect" in run("python -m codegraph_jax doctor", environment, clone)
