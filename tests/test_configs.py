"""The files in configs/, and the documentation and checks of every setting."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks import settings as benchmark
from codegraph_jax import config as detection
from codegraph_jax.commands.config_files import load_config
from codegraph_jax.commands.registry import TASKS
from codegraph_jax.config import BankConfig, Config, DataConfig, SimilarityConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError, read_config, with_settings
from codegraph_jax.data.layouts import LAYOUTS
from contrastive_jax import config as training
from studies import recurring, thresholds
from tests.support import ROOT

CONFIGS = sorted((ROOT / "configs").rglob("[!_]*.py"))


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_are_checked_and_converted_when_they_are_made():
    with pytest.raises(ConfigError, match="^Config.precision: 'bf16' is not one of auto, float32, tf32, bfloat16"):
        Config(precision="bf16")
    with pytest.raises(ConfigError, match="^BankConfig.patch_count: 1 is below 2"):
        BankConfig(patch_count=1)
    data = DataConfig(root=Path("/photos"), add=Path("/more"), range=[0, 4095])
    assert (data.root, data.add, data.range) == ("/photos", ("/more",), (0.0, 4095.0))
    assert BankConfig(patch_count=np.int64(4)).patch_count == 4
    assert SimilarityConfig(references=np.int64(64)).references == 64
    for value in ("al", None):
        with pytest.raises(ConfigError, match=f"^SimilarityConfig.radius: {value!r} is neither a number nor auto nor"):
            SimilarityConfig(radius=value)
    with pytest.raises(ConfigError, match="^config.similarty.radius: there is no such setting"):
        with_settings(Config(), {"similarty.radius": "all"})


@pytest.mark.parametrize(("kind", "name"), [("compact", "photo_count"), ("exact", "patch_count")])
def test_a_bank_refuses_the_size_of_the_other_kind(kind, name):
    with pytest.raises(ConfigError, match=f"^config.bank.{name}: is for [a-z]+ banks; leave it out, or set "):
        with_settings(Config(), {"bank.kind": kind, f"bank.{name}": 32})


def test_every_published_layout_has_a_config():
    layouts = {config.data.layout for path in CONFIGS if isinstance(config := load(path).get_config(), Config)}
    assert set(LAYOUTS) - {"auto"} <= layouts <= {*LAYOUTS, "drawn"}


def test_visa_is_scored_as_published():
    config = load(next(p for p in CONFIGS if p.stem == "visa")).get_config()
    assert config.scoring.rescore_k == (1, 8, 9)
    assert config.metrics.mask_resizing == "any"


VARIANTS = {
    path.stem: get_args(annotation)
    for path in CONFIGS
    for annotation in load(path).get_config.__annotations__.values()
    if get_args(annotation)
}


@pytest.mark.parametrize(("name", "variants"), VARIANTS.items())
def test_a_config_has_the_variants_that_it_declares(name, variants):
    for variant in filter(None, variants):
        assert load_config(f"{name}:{variant}").task in TASKS
        with pytest.raises(UserError, match=f"has no variant .*; did you mean '{variant}'"):
            load_config(f"{name}:{variant}x")
    with pytest.raises(UserError, match=f"variants: {', '.join(filter(None, variants))}$"):
        load_config(f"{name}:0")


def settings_of(module):
    """(dataclass.field, docstring, default) of every setting that is not a group of settings."""
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, [*node.body[1:], None]):
            if (
                isinstance(field, ast.AnnAssign)
                and "Config)" not in ast.unparse(field)
                and "Settings)" not in ast.unparse(field)
            ):
                said = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
                )
                yield f"{node.name}.{field.target.id}", said, ast.unparse(field)


@pytest.mark.parametrize("module", [detection, benchmark, training], ids=lambda module: module.__name__)
def test_every_setting_is_explained_in_a_sentence(module):
    said = {name: text for name, text, _ in settings_of(module)}
    assert len(said) > 5
    assert not [name for name, text in said.items() if not re.fullmatch(r"(?s)[`A-Z0-9].* .* .*\.", text)]


NO_FILES = {
    "rule",
    "radius",
    "references",
    "fallback",
    "layout",
    "categories",
    "good",
    "name",
    "train_split",
    "test_split",
    "target",
    "split",
    "classes",
    "exclude",
}
"""Settings that take any text and are not paths."""


@pytest.mark.parametrize("module", [detection, recurring, thresholds, training], ids=lambda module: module.__name__)
def test_every_setting_that_names_files_knows_the_home_directory(module):
    texts = [
        (name, definition) for name, _, definition in settings_of(module) if re.search(": (str|tuple.str)", definition)
    ]
    named = {name for name, definition in texts if "path_like" in definition}
    free = {
        name
        for name, definition in texts
        if "path_like" not in definition and not re.search("(choice|switch)\\(", definition)
    }
    assert named
    assert {name.split(".")[1] for name in free} <= NO_FILES
    home = read_config(Config, {"data": {"root": "~/photos", "add": ("~", "/a~b", "~nobody-of-this-name/x")}}).data
    assert home.root == str(Path.home() / "photos")
    assert home.add == (str(Path.home()), "/a~b", "~nobody-of-this-name/x")
    kinds = read_config(Config, {"data": {"add": ("csv:~/a.csv#x=~", "near@test=~/b", "a:/c~d", "")}}).data.add
    assert kinds == (f"csv:{Path.home()}/a.csv#x=~", f"near@test={Path.home()}/b", "a:/c~d", "")
