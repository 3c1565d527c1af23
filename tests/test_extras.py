"""The site, the notebook, the recipes, the container file and the contents of the wheel."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbclient
import nbformat
import pytest

from codegraph_jax.commands.registry import COMMANDS
from tests.support import ROOT
from tests.support.documented import check_command
from tests.support.examples import EXAMPLES
from tests.support.networks import RANDOM_FLAGS
from tests.support.photos import write_photos
from tests.support.processes import run_python

SCRIPTS = sorted(EXAMPLES.glob("*.sh"))
LAUNCHER = f'#!/usr/bin/env bash\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m codegraph_jax "$@"\n'


@pytest.mark.installs
def test_the_site_is_built_without_a_warning(tmp_path):
    command = ("-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site")
    run_python(*command, status=0, NO_MKDOCS_2_WARNING="1")
    page = (tmp_path / "site" / "api" / "index.html").read_text()
    for name in ("CoDeGraph.detect", "ReferenceBank.inspect", "DetectionResult.maps", "read_layout", "trainer.train"):
        assert f"{name}" in page
    start = (tmp_path / "site" / "index.html").read_text()
    assert 'href="results/"' in start, "links of the README lead to pages of the site"
    fetched = re.findall(r'(?:src|href)="(https?://[^"]+)"', start)
    assert not [address for address in fetched if address.endswith((".js", ".css", ".woff2"))], (
        "the site loads no other files"
    )


@pytest.mark.installs
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(EXAMPLES / "first_look.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs, "the notebook is stored without outputs"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "agg")
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "24 photos" in said and "flagged;" in said


@pytest.fixture
def codegraph(tmp_path):
    """An environment with the command `codegraph`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "codegraph").write_text(LAUNCHER)
    (tmp_path / "bin" / "codegraph").chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}


def script(name, *arguments, env):
    command = ["bash", str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)


@pytest.mark.installs
def test_the_weekly_recipes_work_together(tmp_path, codegraph):
    write_photos(tmp_path / "week", n=12)
    write_photos(tmp_path / "today", n=2)
    home = tmp_path / "inspection"
    ended = script("weekly.sh", tmp_path / "week", home, *RANDOM_FLAGS, env=codegraph)
    assert ended.returncode == 0, ended.stderr
    assert (home / "parts.safetensors").is_file() and (home / "week" / "report.html").is_file()
    bank = home / "parts.safetensors"
    night = script("nightly.sh", tmp_path / "today", bank, tmp_path / "out", env=codegraph)
    assert night.returncode in (0, 1), night.stderr
    assert ("flagged parts: " in night.stdout) == (night.returncode == 1)
    absent = script("nightly.sh", tmp_path / "today", tmp_path / "absent.safetensors", tmp_path / "o", env=codegraph)
    assert absent.returncode == 2
    assert "the inspection has not run (status 2)" in absent.stderr


def test_the_reject_list_names_the_flagged_parts(tmp_path):
    (tmp_path / "scores.json").write_text(
        json.dumps([{"path": f"{i}.png", "rank": 3 - i, "flagged": i > 0} for i in range(3)])
    )
    command = (EXAMPLES / "reject_list.py", tmp_path)
    assert run_python(*command).returncode == 1, "an unfinished run has no list"
    (tmp_path / "manifest.json").write_text("{}")
    assert run_python(*command).stdout.split() == ["2.png", "1.png"]


def test_fiftyone_labels_hold_the_regions(tmp_path):
    rows = [{"path": f"photos/{name}.png"} for name in ("a", "b/c")]
    region = {"path": "photos/b/c.png", "box": [10, 5, 20, 15], "width": 40, "height": 20}
    region |= {"peak_score": 0.5, "p_value": 0.01, "group": None}
    for name, content in (("scores", rows), ("regions", [region])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    command = (EXAMPLES / "fiftyone_labels.py", tmp_path, tmp_path / "labels.json")
    assert run_python(*command).returncode == 1, "an unfinished run has no labels"
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"data": {"root": "photos"}}}))
    run_python(*command, status=0)
    labels = json.loads((tmp_path / "labels.json").read_text())
    assert labels["classes"] == ["anomaly"] and labels["labels"]["a"] == []
    (box,) = labels["labels"]["b/c"]
    assert box["bounding_box"] == [0.25, 0.25, 0.25, 0.5] and box["attributes"]["peak_score"] == 0.5


PAGES = ["README.md", "Dockerfile", "examples/README.md", *(f"examples/{path.name}" for path in SCRIPTS)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_codegraph_exist(page):
    text = re.sub(r"\\\n\s*", " ", (ROOT / page).read_text(encoding="utf-8"))
    found = re.findall(r"(?:^|`)codegraph ([a-z]+)([^\n`]*)", text, re.MULTILINE)
    for name, rest in found:
        command = COMMANDS[name]
        if command.module:
            places = ["/somewhere"] * len(command.arguments)
            check_command(name, [*places, *re.findall(r"--config[\w.]*=\S+", rest)])
    assert found or page in ("examples/README.md", "Dockerfile")


def test_the_container_file_copies_existing_files():
    text = (ROOT / "Dockerfile").read_text()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.installs
def test_the_wheel_has_the_configs_and_no_other_top_level_packages(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {name.split("/")[0] for name in names} - {next(n for n in names if "dist-info" in n).split("/")[0]} == {
        "codegraph_jax",
        "contrastive_jax",
    }
    configs = {"__init__.py", *(path.name for path in (ROOT / "configs").glob("[!_]*.py"))}
    assert {Path(name).name for name in names if name.startswith("codegraph_jax/configs/")} == configs
    assert "codegraph = codegraph_jax.commands.console:main" in scripts
    for kind in (".css", ".js", ".j2", "py.typed"):
        assert any(name.endswith(kind) for name in names)
