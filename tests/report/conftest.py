"""The report of two drawn categories."""

from pathlib import Path

import pytest

from codegraph_jax.config import Config
from codegraph_jax.core.progress import Clock
from codegraph_jax.report.results import write_results
from tests.report.outcomes import NAMES, make_outcome


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    outcomes = [
        make_outcome(root / "data", NAMES, "part", labelled=True),
        make_outcome(root / "data", NAMES[:12], "<b>other</b>", recurring=0, seed=1, image_size=(40, 90)),
    ]
    write_results(root / "out", Config(), outcomes, Clock())
    return root / "out" / "report.html"
