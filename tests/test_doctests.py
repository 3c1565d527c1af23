"""The examples in the docstrings of the public API run unchanged."""

import doctest
import importlib

import pytest

MODULES = (
    "codegraph_jax.backbones.naming",
    "codegraph_jax.backbones.presets",
    "codegraph_jax.bank.reference_bank",
    "codegraph_jax.core.settings",
    "codegraph_jax.detector",
    "codegraph_jax.evaluation.metrics",
    pytest.param("contrastive_jax.model", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted and not outcome.failed
