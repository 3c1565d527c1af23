"""Thousands of photographs through the folder job, as a user would start it. `make load-test`; half an hour or more."""

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.data.synthetic import draw_set

ROOT = Path(__file__).parent.parent
IMAGES = int(os.environ.get("LOAD_TEST_IMAGES", 2000))
REFERENCES = 256
MOST_MEMORY = 8 * 2**30


@pytest.mark.load
def test_thousands_of_images_through_the_folder_job(tmp_path):
    folder, workdir = tmp_path / "photographs", tmp_path / "run"
    folder.mkdir()
    drawn = draw_set(IMAGES, 224, seed=0, one_off=0.05, recurring=(0.05,))
    for i, image in enumerate(drawn.images):
        Image.fromarray(image).save(folder / f"{i:05d}.png", compress_level=1)
    labels = drawn.labels
    del drawn

    settings = {"data.root": folder, "backbone.image_size": 224, "similarity.references": REFERENCES}
    options = [f"--config.{field}={value}" for field, value in settings.items()]
    command = [sys.executable, "main.py", "--config=configs/folder.py:offline", f"--workdir={workdir}", *options]
    subprocess.run(command, cwd=ROOT, check=True)

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss * 1024
    seconds = json.loads((workdir / "manifest.json").read_text())["seconds"]
    files = [file for file in workdir.rglob("*") if file.is_file()]
    print(f"\n{IMAGES} images, {REFERENCES} references: {used.ru_utime + used.ru_stime:.0f} CPU s,", end=" ")
    print(f"peak {peak / 2**30:.2f} GiB resident, {sum(f.stat().st_size for f in files) / 1e6:.0f} MB of results")
    print("wall s by stage:", ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))

    rows = list(csv.DictReader((workdir / "scores.csv").open(newline="")))
    by_name = {Path(row["path"]).name: float(row["score"]) for row in rows}
    scores = np.array([by_name[f"{i:05d}.png"] for i in range(IMAGES)])
    assert np.isfinite(scores).all()
    # the share of pairs in which the defective part has the higher score
    ordered = scores[labels == 1][:, None] > scores[labels == 0][None, :]
    print(f"image AUROC {100 * ordered.mean():.1f}")
    assert ordered.mean() > 0.8
    assert (workdir / "report.html").stat().st_size > 0
    assert peak < MOST_MEMORY
