"""The content of files that processes compare; test_processes.py tests this with real processes."""

import os

from codegraph_jax.tasks.agreement import _content


def test_content_is_that_of_the_bytes_and_nothing_is_waited_for(tmp_path):
    first, second, other, pipe = (tmp_path / name for name in ("0.png", "1.png", "2.png", "3.png"))
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    other.write_bytes(b"else")
    os.mkfifo(pipe)
    assert _content(str(first)) == _content(str(second)) != _content(str(other))
    assert {_content(path) for path in (str(pipe), str(tmp_path), str(tmp_path / "none"), "a\0b")} == {"unreadable"}
