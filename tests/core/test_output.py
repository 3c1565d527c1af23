"""Printing never stops the work."""

import io
import os
import sys

import pytest

from codegraph_jax.core.output import say


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show_become_escapes(encoding, monkeypatch):
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding))
    say("1 Prüfling-Ω-\udcff.png: passed")
    text = data.getvalue().decode(encoding)
    assert text.startswith("1 Pr") and text.rstrip().endswith(".png: passed")


def test_a_reader_that_goes_away_is_told_once_and_stops_nothing(monkeypatch, caplog):
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))
    say("first")
    os.close(reading)
    for number in range(3):
        say(str(number))
    assert len(caplog.records) == 1 and "closed" in caplog.text
    sys.stdout.flush()


def test_a_closed_output_and_none(monkeypatch, caplog):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say("x")
    say("y")
    monkeypatch.setattr(sys, "stdout", None)
    say("z")
    assert len(caplog.records) == 1
