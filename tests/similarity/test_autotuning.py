"""Kernel and precision by a short timing: the candidates, the choice, and its message."""

import dataclasses

import jax
import numpy as np
import pytest

from codegraph_jax.config import Config, SimilarityConfig
from codegraph_jax.core import matmul
from codegraph_jax.core.matmul import measured_flop_rate
from codegraph_jax.core.timing import Timing
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.similarity import autotuning
from codegraph_jax.similarity.autotuning import KERNELS, autotune, bfloat16_speedup, timed
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

DEGREES, GRID, CHANNELS = (1, 3, 5), (16, 16), 64
AUTO = Config(precision="auto")


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for function in (timed, measured_flop_rate, bfloat16_speedup):
        function.cache_clear()


@pytest.fixture
def on_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuning.jax, "default_backend", lambda: "gpu")


def _pretend(monkeypatch: pytest.MonkeyPatch, gain: float = 0.0, **seconds: float) -> list:
    """Sets the measured speed of bfloat16 and times of kernels; returns the requested measurements."""
    asked = []

    def timed(*_):
        asked.extend(KERNELS)
        found = {kernel: seconds.get(kernel) for kernel in KERNELS}
        return {kernel: Timing(s, s, s) for kernel, s in found.items() if s}

    def flop_rate(precision):
        asked.append(precision)
        return {"float32": 1e9, "bfloat16": gain * 1e9}[precision]

    monkeypatch.setattr(autotuning, "timed", timed)
    monkeypatch.setattr(autotuning, "measured_flop_rate", flop_rate)
    return asked


def test_given_kernel_and_precision_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _pretend(monkeypatch)
    for config in (Config(), Config(similarity=SimilarityConfig(kernel="direct"), precision="bfloat16")):
        assert autotune(config, GRID, CHANNELS) == (config, "")
    assert not asked


@pytest.mark.parametrize(("gain", "taken"), [(2.5, "bfloat16"), (1.1, "float32"), (0.6, "float32"), (0, "float32")])
def test_bfloat16_is_chosen_if_it_is_clearly_faster(monkeypatch, gain, taken) -> None:
    _pretend(monkeypatch, gain)
    found, said = autotune(AUTO, GRID, CHANNELS)
    assert found == dataclasses.replace(AUTO, precision=taken)
    line = "distances: reuse in bfloat16 (2.5 times as fast as float32 on this machine)"
    assert said == (line if gain == 2.5 else "")


def test_the_choice_of_a_machine_is_the_same_at_every_start(monkeypatch, tmp_path) -> None:
    asked = _pretend(monkeypatch, 1.3)
    assert autotune(AUTO, GRID, CHANNELS)[0].precision == "bfloat16"
    (kept,) = (tmp_path / "cache" / "codegraph-jax" / "bfloat16").iterdir()
    measured = len(asked)
    _pretend(monkeypatch, 1.1)
    bfloat16_speedup.cache_clear()
    assert autotune(AUTO, GRID, CHANNELS)[0].precision == "bfloat16" and len(asked) == measured
    for damaged in ("", "nan", "x", "\xff"):
        kept.write_text(damaged, encoding="latin-1")
        bfloat16_speedup.cache_clear()
        assert autotune(AUTO, GRID, CHANNELS)[0].precision == "float32"


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path) -> None:
    _pretend(monkeypatch, 2.5)
    (tmp_path / "cache").write_text("a file")
    assert autotune(AUTO, GRID, CHANNELS)[0].precision == "bfloat16"


@pytest.mark.parametrize(("reuse", "taken"), [(0.5, "reuse"), (0.95, "direct"), (2.0, "direct")])
def test_accelerators_time_the_kernels(monkeypatch, on_accelerator, reuse, taken) -> None:
    asked = _pretend(monkeypatch, 2.0, direct=1.0, reuse=reuse)
    found, said = autotune(AUTO, GRID, CHANNELS)
    assert [one for one in asked if one not in ("float32", "bfloat16")] == ["direct", "reuse"]
    assert (found.similarity.kernel, found.precision) == (taken, "bfloat16")
    assert f"distances: {taken} in bfloat16" in said


def test_within_a_radius_there_is_one_kernel(monkeypatch, on_accelerator) -> None:
    asked = _pretend(monkeypatch)
    config = Config(similarity=SimilarityConfig(radius=2))
    assert autotune(config, GRID, CHANNELS) == (config, "")
    assert not asked


def test_several_processes_do_not_measure(monkeypatch) -> None:
    asked = _pretend(monkeypatch)
    monkeypatch.setattr(autotuning.jax, "process_count", lambda: 2)
    found, said = autotune(AUTO, GRID, CHANNELS)
    assert found.precision == "float32"
    assert "nothing is timed with several processes" in said
    assert not asked


def test_the_timing_is_real_and_both_kernels_give_the_same() -> None:
    times = timed("float32", DEGREES, GRID, CHANNELS)
    assert tuple(times) == KERNELS
    assert all(timing.seconds > 0 and timing.result is None for timing in times.values())
    assert timed("float32", DEGREES, GRID, CHANNELS) is times, "measured once per process"
    assert measured_flop_rate("float32") > 1e8 and measured_flop_rate("bfloat16") > 1e8


def test_accelerators_get_more_pairs_in_batches(on_accelerator) -> None:
    assert tuple(timed("float32", DEGREES, (8, 8), CHANNELS)) == KERNELS


@pytest.mark.parametrize("fault", ["fails", "is wrong"])
def test_failing_kernel_is_not_chosen(monkeypatch: pytest.MonkeyPatch, fault) -> None:
    true = autotuning.pair_distances

    def wrong(left, right, first, second, options):
        if options.kernel == "reuse" and fault == "fails":
            raise jax.errors.JaxRuntimeError("INTERNAL: no such kernel")
        found = true(left, right, first, second, options)
        return (found[0] + (0.5 if options.kernel == "reuse" else 0.0), found[1])

    monkeypatch.setattr(autotuning, "pair_distances", wrong)
    assert tuple(timed("float32", DEGREES, GRID, CHANNELS)) == KERNELS[:1]


@pytest.mark.parametrize("fault", ["fails", "is wrong"])
def test_failing_precision_is_not_chosen(monkeypatch, fault) -> None:
    def products(left, right, precision):
        if fault == "fails":
            raise jax.errors.JaxRuntimeError("INTERNAL: no such product")
        return left @ right.T + (0.5 if precision == "bfloat16" else 0.0)

    monkeypatch.setattr(matmul, "inner_products", products)
    assert bfloat16_speedup() == 0
    assert autotune(AUTO, GRID, CHANNELS)[0].precision == "float32"


def test_a_run_prints_and_stores_its_choice() -> None:
    backbone = random_backbone(blocks=(1,))
    detector = CoDeGraph(Config(backbone=backbone, precision="auto"))
    taken = detector.config.precision
    assert taken in ("float32", "bfloat16")
    assert np.dtype(detector.backbone.model.dtype).name == taken
    assert (f"in {taken}" in detector.autotuning_note) == (taken == "bfloat16")
    photos = list(draw_set(4, 56, 0, 0.2, ()).images)
    given = CoDeGraph(Config(backbone=backbone, precision=taken))
    np.testing.assert_array_equal(detector.detect(photos).scores_rescored, given.detect(photos).scores_rescored)
    assert given.autotuning_note == ""
