"""kill -9 at random moments of a detection run: the rerun ends with the same files as an uninterrupted run."""

import collections
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from codegraph_jax.core.workdir import RESUME
from tests.support.processes import compiled_once, ended, start_python
from tests.support.small_detection import CATEGORIES, contents, write_drawn_set

PROGRAM = """
import sys
from pathlib import Path
from codegraph_jax.tasks import detect as detect_task
from tests.support.small_detection import small_detection, stored_at_once
with stored_at_once():
    detect_task.run(small_detection(Path(sys.argv[1])), sys.argv[2])
"""


def start(photos: Path, workdir: Path, cache: Path) -> subprocess.Popen:
    return start_python("-c", PROGRAM, photos, workdir, **compiled_once(cache))


def begun(workdir: Path) -> set[int]:
    """Identifies the state that a start has opened."""
    return {path.stat().st_ino for path in (workdir / RESUME).glob("*/settings.json")}


def await_begin(process: subprocess.Popen, workdir: Path, before: set[int]) -> float:
    """Waits until the imports are done and the work begins; returns the time."""
    while process.poll() is None and begun(workdir) in (before, set()):
        time.sleep(0.005)
    return time.monotonic()


def reached(workdir: Path) -> str:
    """The progress of a killed run."""
    pieces = [path.name for path in (workdir / RESUME).rglob("*.safetensors")]
    if finished := len(list((workdir / RESUME).glob("*/*.safetensors"))):
        return "results" if finished == len(CATEGORIES) else "second category"
    return "distances" if any(name.startswith("layer") for name in pieces) else "features" if pieces else "nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "warm"), [pytest.param(2, False, id="while_programs_are_compiled"), pytest.param(30, True, id="compiled")]
)
def test_a_detection_survives_kills(tmp_path, kills, warm):
    """`kills` must hit; if `warm`, programs are compiled first, so that kills are spread evenly over a compiled run."""
    photos, cache, whole, killed = (tmp_path / name for name in ("photos", "cache", "whole", "killed"))
    write_drawn_set(photos)
    if warm:
        ended(start(photos, tmp_path / "warm", cache), status=0)
    process = start(photos, whole, cache)
    begin = await_begin(process, whole, set())
    ended(process, status=0)
    span, expected = (time.monotonic() - begin) * (1.0 if warm else 0.4), contents(whole)
    rng, stages, wholes = random.Random(0), collections.Counter(), 0
    while stages.total() < kills:
        before = begun(killed)
        process = start(photos, killed, cache)
        await_begin(process, killed, before)
        time.sleep(rng.uniform(0, span))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            stages[reached(killed)] += 1
            if reached(killed) != "results" or stages.total() == kills:
                continue
            # only the results are left to write: later kills would not test the work before
            process = start(photos, killed, cache)
        ended(process, status=0)
        wholes += 1
        assert contents(killed) == expected
        shutil.rmtree(killed)
    errors = ended(start(photos, killed, cache), status=0).stderr
    assert not any(word in errors for word in ("anew", "again", "changed", "saved")), (
        "no damaged or foreign state was found"
    )
    print(f"kills: {dict(stages)}; runs that ended in between: {wholes}")
    assert contents(killed) == expected
    hidden = {path.name for path in killed.rglob(".*")}
    assert hidden == {".lock", ".written.json"}, "no state and no partial files remain"
