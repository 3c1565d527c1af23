"""Printing never stops a run: unprintable names, closed pipes, full disks, no terminal."""

import io
import os
import subprocess
import sys

import pytest

from codegraph_jax.core.output import SteadyStream, steady_output
from tests.support import ROOT

NAME = "Prüfling ✓ \udcff.png"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_unprintable_characters_are_escaped(encoding, monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding=encoding))
    steady_output()
    print(NAME)
    print("next", flush=True)
    text = bytes_.getvalue().decode(encoding)
    assert text.splitlines()[1] == "next" and "\\udcff.png" in text


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed")])
def test_a_stream_that_fails_is_dropped(error):
    class Failing(io.StringIO):
        def write(self, text):
            raise error

        def flush(self):
            raise error

    stream = SteadyStream(Failing())
    print("a", file=stream, flush=True)
    print("b", file=stream, flush=True)
    assert not stream.isatty(), "other methods are those of the stream"


def test_a_process_without_a_terminal_has_no_streams_to_change(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    steady_output()
    print("nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="Unix has these pipes")
def test_closed_pipe_keeps_the_exit_status():
    """As with `codegraph detect | head`: the run finishes with exit status 0."""
    code = (
        "from codegraph_jax.core.output import steady_output\nimport logging, sys\nsteady_output()\n"
        "for i in range(20000): print(i, flush=True)\n"
        "logging.basicConfig(); logging.warning('w')\nprint('done', file=sys.stderr)\n"
    )
    reading, writing = os.pipe()
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert errors.splitlines()[-1] == "done" and "Traceback" not in errors and "Exception" not in errors
