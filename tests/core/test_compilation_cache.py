"""Compiled programs are kept in the user's cache, unless the user has chosen another directory or none."""

import os

from tests.support.processes import run_python

PROGRAM = """
import jax, jax.numpy as jnp
from codegraph_jax.core import compilation_cache
compilation_cache.MIN_SECONDS = 0.0
compilation_cache.enable_compilation_cache()
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: jnp.linalg.norm(x @ x.T))(jnp.ones((9, 9))).block_until_ready()
"""


def run(home, **environment) -> str:
    inherited = dict.fromkeys(name for name in os.environ if name.startswith("JAX_"))
    changed = inherited | {"XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu"} | environment
    return run_python("-c", PROGRAM, status=0, **changed).stdout.strip()


def test_programs_are_kept_by_kind_of_machine(tmp_path):
    place = run(tmp_path)
    assert place.startswith(str(tmp_path / "codegraph-jax" / "programs"))
    kept = {path.name for path in (tmp_path / "codegraph-jax").rglob("*-cache")}
    assert kept
    run(tmp_path)
    assert {path.name for path in (tmp_path / "codegraph-jax").rglob("*-cache")} == kept


def test_settings_of_the_user_are_kept(tmp_path):
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")) == str(tmp_path / "own")
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    assert not (tmp_path / "codegraph-jax").exists()


def test_a_read_only_home_is_not_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file") == "None"
