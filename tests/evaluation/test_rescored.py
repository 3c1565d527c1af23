"""The table of metrics has both scores if re-scoring changes the metrics."""

import numpy as np

from codegraph_jax.data.samples import Sample
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.report.tables import metrics_headings, metrics_rows, metrics_table
from tests.support.made_results import made_result

SAMPLES = [Sample(f"/{i}.png", f"{i}.png", "part", label=int(i > 1)) for i in range(4)]
RAW = np.array([0.1, 0.2, 0.3, 0.4])


def metrics_of(scores):
    return evaluate(made_result(RAW, SAMPLES, scores_rescored=np.array(scores)))


def test_the_table_shows_both_where_they_differ():
    harmed = metrics_of([0.1, 0.35, 0.3, 0.4])
    assert (harmed["image_auroc"], harmed["image_auroc_without_rescoring"]) == (0.75, 1.0)
    heading, _, row = metrics_table({"part": harmed}, harmed).splitlines()
    assert heading.index("image AUROC") < heading.index("without re-scoring") < heading.index("image F1-max")
    assert row.split()[1:3] == ["75.00", "100.00"]
    two = {"part": harmed, "other": metrics_of(RAW)}
    assert [len(cells) for cells in metrics_rows(two, harmed)] == [len(metrics_headings(two)) + 1] * 3


def test_the_table_shows_one_where_they_agree():
    alike = metrics_of(RAW * 2)
    assert alike["image_auroc"] == alike["image_auroc_without_rescoring"]
    assert "without re-scoring" not in metrics_table({"part": alike}, alike)
    assert "image_auroc_without_rescoring" not in metrics_of(RAW), "nothing was re-scored"
