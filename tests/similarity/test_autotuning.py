"""Kernel and precision by a short timing: what is timed, what is taken, and what is said of it."""

import dataclasses

import jax
import numpy as np
import pytest

from codegraph_jax.config import BackboneConfig, Config, SimilarityConfig
from codegraph_jax.core.timing import Timing
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.similarity import autotuning
from codegraph_jax.similarity.autotuning import autotune, timed

DEGREES, GRID, CHANNELS = (1, 3, 5), (16, 16), 64
AUTO = SimilarityConfig(precision="auto")
FOUR = tuple(SimilarityConfig(kernel=k, precision=p) for k in ("direct", "reuse") for p in ("float32", "bfloat16"))


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    timed.cache_clear()


@pytest.fixture
def on_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuning.jax, "default_backend", lambda: "gpu")


def _pretend(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> list:
    """Timings that the candidates shall have, by kernel and precision; returns what was asked for."""
    asked = []

    def timed(candidates, *_):
        asked.extend(candidates)
        found = {c: seconds.get(f"{c.kernel}_{c.precision}") for c in candidates}
        return {c: Timing(s, s, s) for c, s in found.items() if s}

    monkeypatch.setattr(autotuning, "timed", timed)
    return asked


def test_what_is_given_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _pretend(monkeypatch)
    for config in (SimilarityConfig(), SimilarityConfig(kernel="direct", precision="bfloat16")):
        assert autotune(config, DEGREES, GRID, CHANNELS) == (config, "")
    assert not asked


@pytest.mark.parametrize(("bfloat16", "taken"), [(0.4, "bfloat16"), (0.9, "float32"), (1.5, "float32"), (0, "float32")])
def test_bfloat16_is_taken_where_it_is_clearly_faster(monkeypatch, bfloat16, taken) -> None:
    _pretend(monkeypatch, auto_float32=1.0, auto_bfloat16=bfloat16)
    found, said = autotune(AUTO, DEGREES, GRID, CHANNELS)
    assert found == dataclasses.replace(AUTO, precision=taken)
    assert said.startswith(f"distances: reuse in {taken}, by a short timing")
    if bfloat16 == 0.4:
        assert "reuse in float32 takes 2.5 times as long" in said


@pytest.mark.parametrize(("reuse", "taken"), [(0.5, "reuse"), (0.95, "direct"), (2.0, "direct")])
def test_accelerators_time_the_kernels(monkeypatch, on_accelerator, reuse, taken) -> None:
    asked = _pretend(monkeypatch, direct_float32=1.0, reuse_float32=reuse)
    found, said = autotune(SimilarityConfig(), DEGREES, GRID, CHANNELS)
    assert [config.kernel for config in asked] == ["direct", "reuse"]
    assert found.kernel == taken
    assert f"distances: {taken} in float32" in said


def test_within_a_radius_there_is_one_kernel(monkeypatch, on_accelerator) -> None:
    asked = _pretend(monkeypatch)
    config = SimilarityConfig(radius=2)
    assert autotune(config, DEGREES, GRID, CHANNELS) == (config, "")
    assert not asked


def test_several_processes_do_not_measure(monkeypatch) -> None:
    asked = _pretend(monkeypatch)
    monkeypatch.setattr(autotuning.jax, "process_count", lambda: 2)
    found, said = autotune(AUTO, DEGREES, GRID, CHANNELS)
    assert found.precision == "float32"
    assert "several processes" in said
    assert not asked


def test_the_timing_is_real_and_both_kernels_give_the_same() -> None:
    times = timed(FOUR, DEGREES, GRID, CHANNELS)
    assert tuple(times) == FOUR
    assert all(timing.decisive > 0 for timing in times.values())
    assert timed(FOUR, DEGREES, GRID, CHANNELS) is times, "measured once in a process"


def test_accelerators_get_more_pairs_in_batches(on_accelerator) -> None:
    candidates = tuple(SimilarityConfig(kernel=kernel) for kernel in ("direct", "reuse"))
    assert tuple(timed(candidates, DEGREES, (8, 8), CHANNELS)) == candidates


def test_what_fails_or_gives_other_distances_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    true = autotuning.pair_distances

    def wrong(left, right, first, second, options):
        if options.kernel == "reuse":
            raise jax.errors.JaxRuntimeError("INTERNAL: no such kernel")
        found = true(left, right, first, second, options)
        return (found[0] + (0.5 if options.precision == "bfloat16" else 0.0), found[1])

    monkeypatch.setattr(autotuning, "pair_distances", wrong)
    assert tuple(timed(FOUR, DEGREES, GRID, CHANNELS)) == FOUR[:1]


def test_a_run_says_and_keeps_what_it_chose() -> None:
    backbone = BackboneConfig(name="dinov2-small", weights="random", image_size=56, blocks=(1,))
    detector = CoDeGraph(Config(backbone=backbone, similarity=AUTO))
    taken = detector.config.similarity.precision
    assert taken in ("float32", "bfloat16")
    assert f"in {taken}" in detector.choice
    photographs = list(draw_set(4, 56, 0, 0.2, ()).images)
    given = CoDeGraph(Config(backbone=backbone, similarity=SimilarityConfig(precision=taken)))
    np.testing.assert_array_equal(detector.detect(photographs).scores, given.detect(photographs).scores)
    assert given.choice == ""
