"""The choice of files that processes compare completely; test_processes.py tests this with real processes."""

import os

import pytest

from codegraph_jax.data.samples import Sample
from codegraph_jax.tasks.agreement import SAMPLED, _content, _some


@pytest.mark.parametrize("count", [1, 2, SAMPLED - 1, SAMPLED, SAMPLED + 1, 1000])
def test_the_files_compared_are_few_and_spread_evenly(count):
    chosen = [int(s.name) for s in _some([Sample("", str(i), "") for i in range(count)])]
    assert len(chosen) == min(count, SAMPLED) and (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = [b - a for a, b in zip(chosen, chosen[1:])]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_content_is_that_of_the_bytes_and_nothing_is_waited_for(tmp_path):
    first, second, other, pipe = (tmp_path / name for name in ("0.png", "1.png", "2.png", "3.png"))
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    other.write_bytes(b"else")
    os.mkfifo(pipe)
    assert _content(str(first)) == _content(str(second)) != _content(str(other))
    assert {_content(path) for path in (str(pipe), str(tmp_path), str(tmp_path / "none"), "a\0b")} == {"unreadable"}
