"""Libraries with long imports are imported on their first use, so that a notebook starts at once."""

import json

from tests.support.processes import run_python

HEAVY = {
    "matplotlib", "networkx", "orbax", "pandas", "scipy.cluster", "scipy.interpolate", "scipy.ndimage",
    "scipy.optimize", "scipy.sparse", "scipy.spatial", "scipy.special", "scipy.stats", "sklearn", "tensorflow",
    "tensorflow_datasets", "tensorstore", "torch", "transformers",
}  # fmt: skip
"""Modules of which each takes from 0.1 to 3 s."""
LIST = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def loaded(*statements):
    """The modules in a new process after some statements."""
    return set(json.loads(run_python("-c", "; ".join([*statements, LIST]), status=0).stdout))


def test_the_public_classes_are_imported_without_heavy_libraries():
    modules = loaded(
        "from codegraph_jax import CoDeGraph, DetectionResult, ReferenceBank", "from contrastive_jax import OECL"
    )
    assert {"jax", "codegraph_jax.detector", "codegraph_jax.result", "contrastive_jax.model"} <= modules
    assert not modules & HEAVY


def test_the_help_of_the_command_is_printed_without_jax():
    modules = loaded("from codegraph_jax.commands.console import usage", "usage()")
    assert not modules & {*HEAVY, "jax", "flax", "numpy", "absl"}


def test_the_server_of_the_app_starts_without_jax():
    modules = loaded("import codegraph_jax.app.server")
    assert "codegraph_jax.line.ledger" in modules and not modules & {"jax", "flax"}
