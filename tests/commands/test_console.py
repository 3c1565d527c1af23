"""The command `codegraph`, names of configs, exit statuses, `~`, and an interruption from the keyboard."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import pytest

import codegraph_jax
from codegraph_jax.commands import launch
from codegraph_jax.commands.config_files import config_names, configs_directory, shipped_config
from codegraph_jax.commands.console import main as console_main
from codegraph_jax.commands.console import usage
from codegraph_jax.commands.launch import parse_command_line
from codegraph_jax.commands.registry import CLONE_ONLY, COMMANDS
from tests.support import ROOT, commands
from tests.support.commands import codegraph
from tests.support.documented import check_command
from tests.support.networks import RANDOM_FLAGS
from tests.support.photos import write_photos
from tests.support.processes import run_python

started = partial(run_python, "-m", "codegraph_jax")
"""`codegraph` in a process of its own."""


def parsed(*words):
    """The config name, the changed settings, the workdir and the exit code of `codegraph detect WORDS`."""
    with commands.fresh_process():
        line = parse_command_line(words, COMMANDS["detect"])
        given = launch.WORKDIR.value, launch.EXIT_CODE.value
    assert all(attrgetter(path)(line.config) == value for path, value in line.settings.items())
    return line.config_name, line.settings, *given


def test_words_stand_for_settings_and_flags():
    both = {"data.root": "/photos", "data.cache": "x"}
    assert parsed("/photos", "--config.data.cache=x") == ("folder", both, None, False)
    assert parsed("--workdir", "out", "/photos", "--exit-code") == ("folder", {"data.root": "/photos"}, "out", True)
    assert parsed("--out=out", "--noexit-code", "/photos") == ("folder", {"data.root": "/photos"}, "out", False)
    assert parsed("/s", "--config=mvtec:reference") == ("mvtec:reference", {"data.root": "/s"}, None, False)
    odd = parsed("--config", "mvtec:reference", "--size", "448", "--", "--odd")
    assert odd == ("mvtec:reference", {"data.root": "--odd", "backbone.image_size": 448}, None, False)


def test_a_config_file_may_omit_settings_and_has_their_types(tmp_path):
    file = tmp_path / "own.py"
    start = "from codegraph_jax.config import Config, SimilarityConfig\ndef get_config():\n    return Config("
    file.write_text(f"{start}similarity=SimilarityConfig(radius=3))")
    words = ["/photos", f"--config={file}", "--threshold=0.4", "--config.similarity.radius=auto"]
    with commands.fresh_process():
        config = parse_command_line(words, COMMANDS["detect"]).config
    assert (config.data.root, config.threshold.rule, config.similarity.radius) == ("/photos", "score:0.4", "auto")
    file.write_text(f"{start}data=3)")
    ended = commands.codegraph("detect", "/photos", f"--config={file}", "--good=ok")
    assert ended.returncode == 2 and ended.stderr == "error: config.data: is a group of settings, got 3\n"


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.module])
def test_every_command_runs_its_default_config(name):
    assert check_command(name, [f"/{word}" for word, _ in COMMANDS[name].arguments]).task == COMMANDS[name].task


def test_the_help_lists_every_command_once():
    listed = [line.split()[0] for line in usage().splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The packages of a wheel: without benchmarks, studies and their configs."""
    home = tmp_path_factory.mktemp("site-packages")
    for package in ("codegraph_jax", "contrastive_jax"):
        shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    left_out = shutil.ignore_patterns("__pycache__", "studies")
    shutil.copytree(ROOT / "configs", home / "codegraph_jax" / "configs", ignore=left_out)
    # other packages sometimes leave such a directory
    (home / "benchmarks").mkdir()
    return {"PYTHONPATH": str(home)}


def test_benchmarks_and_studies_are_commands_of_a_clone_alone(installed, tmp_path):
    whole = [line.split()[0] for line in usage().splitlines() if line.startswith("  ")]
    told = started("--help", cwd=tmp_path, **installed).stdout
    listed = [line.split()[0] for line in told.splitlines() if line.startswith("  ")]
    assert set(whole) - set(listed) == set(CLONE_ONLY)
    studies = {path.stem for path in (ROOT / "configs" / "studies").glob("[!_]*.py")}
    assert studies and not studies & set(re.split(r"[\s,]+", told.partition("Configs by name")[2]))


@pytest.mark.parametrize(
    "words,command",
    [
        (["benchmark"], "benchmark"),
        (["recurring", "--config=recurring:quick"], "recurring"),
        (["answers"], "answers"),
        (["sweep", "photos"], "sweep"),
        (["reproduce", "musc"], "reproduce"),
    ],
)
def test_without_a_clone_they_are_refused_in_one_line(installed, tmp_path, words, command):
    ended = started(*words, cwd=tmp_path, **installed)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert "benchmarks and studies run only from a clone of the repository" in ended.stderr
    assert ended.stderr.endswith(f"python -m codegraph_jax {command}\n")


SEVERAL = f"""
import sys
from runpy import run_path

sys.argv = [{commands.__file__!r}, *sys.argv[1:]]
run_path(sys.argv[0], run_name="__main__")
"""
"""Runs several commands in one process, separate from the tests."""
EDITABLE = f"""
import sys
from importlib.util import module_from_spec, spec_from_file_location

for name in ("codegraph_jax", "contrastive_jax"):
    home = {str(ROOT)!r} + "/" + name
    spec = spec_from_file_location(name, home + "/__init__.py", submodule_search_locations=[home])
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
{SEVERAL}"""
"""The same in an editable install: both packages are found, and the root of the clone is not on the path."""


def several(program, *lines, **options):
    """(exit status, standard output, standard error) of each command."""
    return json.loads(run_python("-c", program, json.dumps(lines), status=0, **options).stdout)


def test_an_editable_install_finds_benchmarks_and_studies(tmp_path):
    benchmark, study = ["settings", "benchmark"], ["answers", "--config.shares=2"]
    settings, refused = several(EDITABLE, benchmark, study, cwd=tmp_path, PYTHONPATH=None)
    assert settings[0] == 0 and "--config.precisions = float32,bfloat16" in settings[1]
    assert refused[0] == 2 and "config.shares: 2 is above 0.9" in refused[2]


def test_the_settings_of_a_benchmark_are_listed_in_a_clone(installed, tmp_path):
    words = ("", "benchmark", "torch")
    installation = several(SEVERAL, *(["settings", word] for word in words), cwd=tmp_path, **installed)
    for word, (_, there, complaint) in zip(words, installation, strict=True):
        here = codegraph("settings", word).stdout
        assert "--config.precisions = float32,bfloat16" in here or word == "torch"
        assert "--config.torch = True" in here
        assert "--config.precisions" not in there and "Traceback" not in complaint
        assert ("--config.data.root" in there) == (not word)


def test_configs_have_names_and_files_have_priority(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "mvtec" in config_names()
    assert Path(shipped_config("mvtec")).is_file()
    assert shipped_config("configs/mvtec.py:reference") == f"{configs_directory() / 'mvtec.py'}:reference"
    assert shipped_config("elsewhere/mvtec.py") == "elsewhere/mvtec.py"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mvtec.py").touch()
    assert shipped_config("configs/mvtec.py") == "configs/mvtec.py"


@pytest.mark.parametrize(
    "task,config,place,workdir",
    [
        ("detect", "folder", "/my/photos", "runs/photos"),
        ("detect", "folder", "/my/photos/", "runs/photos"),
        ("detect", "mvtec", "/data/bottles", "runs/bottles-mvtec"),
        ("detect", "tfds", "tfds:beans", "runs/beans-tfds"),
        ("detect", "demo", "", "runs/demo"),
        ("detect", "folder", "/", "runs/folder"),
        ("inspect", "", "/my/photos", "runs/photos-inspect"),
        ("choose", "", "/my/photos", "runs/photos-choose"),
        ("oecl_score", "", "/my/photos", "runs/photos-score"),
        ("oecl", "folder_oecl", "/my/photos", "runs/folder_oecl"),
        ("watch", "", "/my/photos", "runs/watch"),
    ],
)
def test_results_of_other_photos_have_another_default_workdir(task, config, place, workdir, monkeypatch):
    monkeypatch.setattr(launch, "WORKDIR", SimpleNamespace(value=None))
    values = SimpleNamespace(task=task, data=SimpleNamespace(root=place), images=place)
    assert launch.results_directory(values, config and f"configs/{config}.py") == workdir.replace("/", os.sep)


def test_the_version_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["codegraph", "--version"])
    with pytest.raises(SystemExit) as ended:
        console_main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"codegraph-jax {codegraph_jax.__version__}\n"


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["detekt"], "did you mean 'detect'?"),
        (["detect", "a", "b"], "unexpected argument 'b'"),
        (["detect"], "PHOTOS (config.data.root): is empty; name the folder of the photos"),
        (["watch"], "BANK (config.bank.path): is empty; name the .safetensors file of a bank"),
        (["parts"], "LINE_DIR (config.line): is empty; name the directory of a line"),
        (["score"], "RUN (config.run): is empty; name a directory"),
        (["train", "a"], "OTHER (config.oe.source): is empty; name a folder of other images"),
        (["inspect", "--config=folder"], "is for another command; use codegraph detect"),
        (["train", "a", "b", "--exit-code"], "--exit-code: has no effect, since train flags no photos; leave it out"),
        (["sweep", "a", "--exit-code"], "--exit-code: has no effect, since sweep flags no photos; leave it out"),
        (["export", "a", "b", "--out=c"], "--out: has no effect, since export writes no directory; leave it out"),
        (["inspect", "--config=mvtec", "--help"], "is for another command; use codegraph detect"),
        (["detect", "--config=absent", "x"], "absent: no such file"),
        (["detect", "--config=mvtek", "x"], "did you mean 'mvtec'?"),
        (["detect", "--no_such_flag=1", "x"], "--no_such_flag: no such flag"),
        (["detect", "x", "--exit-cod"], "--exit-cod: no such flag; did you mean --exit-code?"),
        (["detect", "x", "--exit-code=maybe"], "--exit_code=maybe"),
        (["detect", "x", "--out", "--exit-code"], "--out: needs a value; write --out=VALUE"),
        (["detect", "x", "--config"], "--config: needs a value; write --config=VALUE"),
        (["train", "x", "y", "--processes=many"], "--processes=many"),
        (["demo", "--good=ok"], "--good (config.data.good): has no effect on the drawn set"),
        (["doctor", "x"], "takes no arguments"),
    ],
)
def test_a_wrong_command_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = codegraph(*arguments)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not list(tmp_path.iterdir())


def test_a_wrong_command_is_one_line_of_a_process(tmp_path):
    ended = started("detect", "a", "b", cwd=tmp_path)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and "unexpected argument 'b'" in line
    assert not list(tmp_path.iterdir())


def test_from_a_folder_to_the_report_in_one_command(tmp_path, monkeypatch):
    write_photos(tmp_path / "home" / "photos", n=5)
    share = "--config.threshold.rule=share:40%"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    arguments = ("detect", "~/photos", "--workdir=~/res", *RANDOM_FLAGS, share, "--config.review=")
    ended = started(*arguments, "--exit-code", cwd=tmp_path)
    assert ended.returncode == 1, "a photo is flagged"
    assert (tmp_path / "home" / "res" / "report.html").is_file()
    assert not (tmp_path / "~").exists()
    assert "2 of 5 photos flagged" in ended.stdout
    quiet = codegraph(*arguments, "--exit-code", "--config.threshold.rule=score:1.99")
    assert quiet.returncode == 3, "five photos are too few for any to pass"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT")
def test_an_interruption_from_the_keyboard_is_one_line(tmp_path):
    write_photos(tmp_path / "photos", n=12)
    command = [sys.executable, str(ROOT / "main.py"), "--config=folder", f"--config.data.root={tmp_path}/photos",
               f"--workdir={tmp_path}/work", *RANDOM_FLAGS, "--config.backbone.image_size=560"]  # fmt: skip
    # a background process of a script ignores this signal, and its child processes inherit that
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heard
    )
    for line in run.stdout:
        if "12 photos" in line:
            break
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1] == ("interrupted; start the same command again to resume")
