"""Lists of data sets: any JSON and any CSV gives samples or a layout error."""

import csv
import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.search import LayoutError
from tests.support.damage import BUDGET, JSON

HEADER = ["object", "split", "label", "image", "mask"]
PATHS = st.sampled_from(["../x", "/etc/passwd", "a\0", "OK/a.png", "\ud800.png", "x" * 5000, "C:\\x", ""])
CELLS = st.text(max_size=12) | PATHS | st.sampled_from(["candle", "train", "test", "normal", "anomaly"])
ROWS = st.lists(st.lists(CELLS, max_size=6), max_size=5)
META = JSON | st.fixed_dictionaries({"normal_class": st.just("OK"), "prefix": PATHS | st.just("audiojack")})
FIELDS = {"image_path": PATHS | JSON, "mask_path": PATHS | JSON, "anomaly_class": st.just("OK") | JSON}
ENTRIES = st.lists(JSON | st.fixed_dictionaries({}, optional=FIELDS), max_size=3)
REAL_IAD = st.fixed_dictionaries({"meta": META, "train": JSON, "test": JSON | ENTRIES})


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def read(layout, root):
    try:
        for samples in read_layout(layout, str(root)).values():
            assert all(sample.path.startswith(str(root)) for sample in samples)
    except LayoutError as error:
        assert "\n" not in str(error)


@BUDGET
@given(JSON | REAL_IAD)
def test_any_json_gives_samples_or_an_error(tmp_path_factory, value):
    root = tmp_path_factory.mktemp("json")
    (root / "realiad_jsons").mkdir()
    (root / "realiad_jsons" / "audiojack.json").write_text(json.dumps(value))
    read("real_iad", root)


@BUDGET
@given(ROWS, st.booleans(), st.permutations(HEADER))
def test_any_csv_gives_samples_or_an_error(tmp_path_factory, rows, quoted, header):
    root = tmp_path_factory.mktemp("csv")
    (root / "split_csv").mkdir()
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([header, *([*row, *[""] * 5][:5] for row in rows)])
    (root / "split_csv" / "1cls.csv").write_text(text.getvalue(), encoding="utf-8", errors="replace", newline="")
    read("visa", root)
