"""Settings of the contrastive tests."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compile():
    """Compiles with few optimisations: where training steps are only a means, compiling them is what takes time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
