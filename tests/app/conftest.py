"""A server of the app in this process, and the files of finished runs."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from PIL import Image

from codegraph_jax.app.server import COOKIE, create_app
from codegraph_jax.report.page_security import content_policy, style_and_script

KEY = "a key that is long enough"
ADDRESS = "http://127.0.0.1:8450"


@pytest.fixture
def results(tmp_path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def client(results):
    with TestClient(create_app(results, KEY), base_url=ADDRESS, cookies={COOKIE: KEY}) as opened:
        yield opened


def write_run(results: Path, run: str, command: str = "codegraph detect /photos", own_report: bool = True) -> Path:
    """A finished run of three photos, of which one is flagged."""
    workdir = results / run
    (workdir / "heatmaps" / "part").mkdir(parents=True)
    (workdir / "masks" / "part").mkdir(parents=True)
    names = ["a.png", "=b.png", "c.png"]
    for name in names:
        Image.new("RGB", (40, 30), (200, 0, 0) if name == "a.png" else (0, 0, 200)).save(
            workdir / "heatmaps" / "part" / f"{name}.png"
        )
    Image.new("L", (40, 30)).save(workdir / "masks" / "part" / "a.png.png")
    scores = [
        {"path": f"/photos/{name}", "category": "part", "score": 0.5 - i / 10, "rank": i + 1, "flagged": i == 0,
         "verdict": "flagged" if i == 0 else "check" if i == 1 else "passed"} for i, name in enumerate(names)
    ]  # fmt: skip
    policy = escape(content_policy(*style_and_script())) if own_report else "default-src 'self'"
    page = f'<head><meta http-equiv="Content-Security-Policy" content="{policy}"></head><body>report</body>'
    files = {
        "scores.json": json.dumps(scores),
        "report.html": page,
        "groups.json": json.dumps({"part": [{"name": "<i>rust", "verdict": "defect", "members": ["a", "b"]}]}),
        "manifest.json": json.dumps(
            {"command": command, "config": {"task": "detect", "data": {"root": "/photos"}}, "image_counts": {"part": 3},
             "thresholds": {"part": {"flagged_count": 1}}}
        ),
    }  # fmt: skip
    for name, text in files.items():
        (workdir / name).write_text(text)
    images = [p.relative_to(workdir).as_posix() for p in workdir.rglob("*.png")]
    (workdir / ".written.json").write_text(json.dumps({"files": [*files, *images]}))
    return workdir
