"""Settings of the whole suite."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # programs that several tests use are compiled once per run
    PROGRAMS = tempfile.TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # each worker has cores of its own: its threads do not wait for those of the other (15% of the time on two cores)
    number, count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number % len(cores) :: count])

if "XLA_FLAGS" not in os.environ:
    # one core compiles as fast without splitting a program first: 7% of the time of tests that mostly compile
    os.environ["XLA_FLAGS"] = "--xla_cpu_parallel_codegen_split_count=1"

# Programs that run once are compiled twice as fast with few optimisations of the machine code; the operations and their
# order stay. `make test-all` and `make test-installs` set it and compile as users do. Subprocesses inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import jax
import pytest
from hypothesis import settings

# eight devices on one host, so that work split over devices is tested
jax.config.update("jax_num_cpu_devices", 8)

# no deadline: a first call may import a library; `--hypothesis-profile=large` has more examples, except in tests
# that state their own number
settings.register_profile("default", deadline=None)
settings.register_profile("large", max_examples=2_000, deadline=None)
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def random_parameters_once():
    """Draws the random parameters of a backbone once in a process: 0.4 s for the 22 million of `dinov2-small`."""
    from codegraph_jax.backbones import preset_backbone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preset_backbone, "random_parameters", lru_cache(maxsize=4)(preset_backbone.random_parameters))
        yield


@contextmanager
def few_optimisations(few: bool) -> Iterator[None]:
    """Programs that are compiled from now on; earlier ones are dropped, so that the order of tests has no effect."""
    before = jax.config.read("jax_disable_most_optimizations")
    if few == before:
        yield
        return
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", few)
    yield
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def usual_megapixels():
    """Restores the default size limit of photos, which a line and a run change for the whole process."""
    from codegraph_jax.data.decoding import allow_megapixels

    allow_megapixels()


@pytest.fixture(scope="module")
def browser():
    """A headless browser with one page."""
    from tests.support.browser import opened_browser

    yield from opened_browser()


@pytest.fixture(scope="module")
def quick_compile():
    """Compiles with few optimisations even if the rest of the suite does not, since these tests mostly compile."""
    with few_optimisations(True):
        yield


@pytest.fixture(scope="module")
def optimised():
    """Compiles as for users, since these programs run for longer than they compile."""
    with few_optimisations(False):
        yield


@pytest.fixture(scope="module")
def tiny_presets():
    """The presets of `tests.support.tiny_backbones.tiny_backbone`."""
    from tests.support.tiny_backbones import tiny_presets

    with tiny_presets():
        yield


@pytest.fixture(scope="module")
def stored_at_once(tiny_presets):
    """Runs of `tests.support.small_detection` store all intermediate results."""
    from tests.support.small_detection import stored_at_once

    with stored_at_once():
        yield


@pytest.fixture
def backbone_batches(monkeypatch):
    """The sizes of the batches that a backbone has computed, one device wide."""
    from codegraph_jax.features.extraction import Extractor

    sizes, forward = [], Extractor.forward

    def counting(extractor, batch):
        sizes.append(len(batch))
        return forward(extractor, batch)

    monkeypatch.setattr(Extractor, "forward", counting)
    return sizes


@pytest.fixture(scope="module")
def shallow():
    """The preset `dinov2-small` with few blocks, for tests that do not test the backbone."""
    from tests.support.networks import shallow_backbone

    with shallow_backbone():
        yield


@pytest.fixture(scope="module")
def quick_training(quick_compile):
    """Compiles with few optimisations, and a network of few layers, for tests that do not test the training."""
    from tests.support.training import shallow_resnet

    with shallow_resnet():
        yield
