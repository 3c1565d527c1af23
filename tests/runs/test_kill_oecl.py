"""kill -9 at random moments of a training run: the rerun ends with the same bits as an uninterrupted run."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from contrastive_jax.report.metrics_log import read_log
from tests.support.processes import compiled_once, ended, start_python

PROGRAM = """
import sys
from tests.support.training import small_training
from contrastive_jax import trainer
trainer.train(small_training("oecl", batch_size=64, epochs=int(sys.argv[2]), checkpoint_every=1), sys.argv[1])
"""
EPOCHS, KILLS = 34, 31


def start(workdir: Path, cache: Path) -> subprocess.Popen:
    return start_python("-c", PROGRAM, workdir, EPOCHS, **compiled_once(cache), JAX_DISABLE_MOST_OPTIMIZATIONS="1")


def kill_until_done(workdir: Path, cache: Path) -> int:
    """Restarts the run and kills it a random time after it has resumed, again and again; returns the kills that hit."""
    hits, rng = 0, random.Random(0)
    for kill in range(KILLS):
        process = start(workdir, cache)
        before = len(read_log(workdir / "metrics.jsonl"))
        goal = min(before + 1, EPOCHS - KILLS + kill)
        while process.poll() is None and len(read_log(workdir / "metrics.jsonl")) < goal:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            hits += 1
            process.send_signal(signal.SIGKILL)
        process.communicate()
    ended(start(workdir, cache), status=0)
    return hits


def outcome(workdir: Path) -> dict:
    """The values that must be equal to the bit: metrics, scores, and results without the speed."""
    results = json.loads((workdir / "results.json").read_text())
    results.pop("speed", None)
    lines = read_log(workdir / "metrics.jsonl")
    return {
        "results": results,
        "scores": (workdir / "scores.csv").read_text(),
        "metrics": [{k: v for k, v in line.items() if k != "normal_images_per_s"} for line in lines],
    }


@pytest.mark.slow
def test_a_training_survives_thirty_kills(tmp_path):
    cache = tmp_path / "cache"
    ended(start(tmp_path / "whole", cache), status=0)
    hits = kill_until_done(tmp_path / "killed", cache)
    print(f"kills: {hits} of {KILLS} hit a run at work, {EPOCHS} epochs")
    assert hits >= 30
    whole, killed = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    assert whole == killed
    assert np.isfinite([line["loss"] for line in killed["metrics"]]).all()
    assert not [path for path in (tmp_path / "killed").rglob("*tmp*")]
