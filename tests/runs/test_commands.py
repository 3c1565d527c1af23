"""The documented commands that detect or inspect run on a few drawn images with a small random network.

The other words of a command are unchanged. `tests/test_docs.py` parses all commands, of every task.
"""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from codegraph_jax.commands.config_files import load_config
from codegraph_jax.commands.registry import COMMANDS
from codegraph_jax.config import BackboneConfig, Config, InspectConfig
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks import inspect as inspect_task
from tests.support import ROOT
from tests.support.documented import CONFIGS, PAGES, check_command, commands_in, config_name
from tests.support.photos import write_mask, write_noise

pytestmark = pytest.mark.slow

SIZE = (60, 44)
TREES = {
    "folder": ["a.png", "b/c.png", "b/d.png"],
    "mvtec": ["bottle/test/good/0.png", "bottle/test/good/1.png", "bottle/test/bad/0.png"],
    "mvtec_ad_2": ["can/test_public/good/0.png", "can/test_public/bad/0.png"],
    "btad": ["01/test/ok/0.bmp", "01/test/ko/1.bmp"],
    "visa": ["candle/test/good/0.png", "candle/test/bad/0.png"],
    "kolektor": ["test/1.png", "test/2.png"],
    "real_iad": ["realiad_256/jack/OK/0.jpg", "realiad_256/jack/NG/1.jpg"],
}
MASKS = {
    "mvtec": "bottle/ground_truth/bad/0_mask.png",
    "mvtec_ad_2": "can/test_public/ground_truth/bad/0_mask.png",
    "btad": "01/ground_truth/ko/1.png",
    "visa": "candle/ground_truth/bad/0.png",
    "real_iad": "realiad_256/jack/NG/1.png",
}
NETWORK = {"name": "dinov2-small", "weights": "random", "image_size": 28, "blocks": (1,)}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """{layout: root}, a folder of further images, a bank, and an image of the inspected area."""
    roots = {}
    for layout, names in TREES.items():
        root = tmp_path_factory.mktemp(layout)
        for i, name in enumerate(names):
            write_noise(root / name, i, SIZE)
        if layout in MASKS:
            write_mask(root / MASKS[layout], (5, 5, 20, 20), SIZE)
        roots[layout] = root
    write_mask(roots["kolektor"] / "test/1_GT.png", (5, 5, 20, 20), SIZE)
    write_mask(roots["kolektor"] / "test/2_GT.png", (0, 0, 0, 0), SIZE)
    entries = [("OK", "OK/0.jpg", None), ("HS", "NG/1.jpg", "NG/1.png")]
    keys = ("anomaly_class", "image_path", "mask_path")
    listing = {"meta": {"normal_class": "OK", "prefix": "jack/"}, "train": [],
               "test": [{"category": "jack", **dict(zip(keys, entry))} for entry in entries]}  # fmt: skip
    (roots["real_iad"] / "realiad_jsons").mkdir()
    (roots["real_iad"] / "realiad_jsons/jack.json").write_text(json.dumps(listing))
    more = tmp_path_factory.mktemp("more")
    write_noise(more / "new.png", size=SIZE)
    bank = tmp_path_factory.mktemp("bank") / "parts.safetensors"
    config = Config(backbone=BackboneConfig(**NETWORK))
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(roots["folder"])),
        bank=dataclasses.replace(config.bank, save=str(bank)),
    )
    detect_task.run(config, str(tmp_path_factory.mktemp("night")))
    area = more.with_name("area.png")
    Image.new("L", (8, 8), 255).save(area)
    return roots, more, bank, area


def documented():
    """Commands of the two tasks, each once.

    Layout tfds is run by tests/data/test_tfds_layout.py, and sweeps by tests/tasks/test_sweep.py.
    """
    found = {}
    for page in [*PAGES, *CONFIGS]:
        for name, words in commands_in(page.read_text(encoding="utf-8")):
            if name == "sweep":
                continue
            config = config_name(name, words)
            task = load_config(config).task if config else COMMANDS[name].task
            if task in ("detect", "inspect") and "tfds" not in config:
                found.setdefault(" ".join([name, *words]), (name, words))
    return [pytest.param(*command, id=text[:100]) for text, command in sorted(found.items())]


@pytest.mark.parametrize("name,words", documented())
def test_documented_commands_run(name, words, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if any("ideas.py" in word for word in words):
        # the file in docs/research.md
        text = (ROOT / "docs" / "research.md").read_text(encoding="utf-8")
        (tmp_path / "ideas.py").write_text(re.search(r"```python\n(# ideas\.py\n.*?)```", text, re.DOTALL)[1])
        monkeypatch.chdir(tmp_path)
    roots, more, bank, area = inputs
    config = check_command(name, words)
    if isinstance(config, InspectConfig):
        data = dataclasses.replace(config.data, root=str(more))
        config = dataclasses.replace(config, data=data, bank=dataclasses.replace(config.bank, path=str(bank)),
                                     backbone=dataclasses.replace(config.backbone, weights="random"))  # fmt: skip
        outcomes = inspect_task.run(config, str(tmp_path / "work"))
    else:
        data = dataclasses.replace(
            config.data,
            root=str(roots.get(config.data.layout, "")),
            categories=(),
            add=(str(more),) if config.data.add else (),
            cache=str(tmp_path / "cache") if config.data.cache else "",
            roi=str(area) if config.data.roi else "",
            draw=dataclasses.replace(config.data.draw, image_count=6, size=56),
        )
        config = dataclasses.replace(
            config,
            data=data,
            backbone=dataclasses.replace(config.backbone, **NETWORK),
            # a person gives verdicts after a run: tests/runs/test_review.py does
            review="",
            bank=dataclasses.replace(config.bank, save=str(tmp_path / "b.safetensors") if config.bank.save else ""),
        )
        outcomes = detect_task.run(config, str(tmp_path / "work"))
    assert outcomes and (tmp_path / "work" / "manifest.json").is_file()
    assert Path(tmp_path / "work" / "report.html").is_file() == ("page" in config.report.files)
    if isinstance(config, Config) and config.data.layout in (*MASKS, "kolektor", "drawn"):
        assert outcomes[0].metrics["pixel_auroc"] is not None
