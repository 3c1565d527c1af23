"""Helpers that tests of several packages use."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The root of the clone."""
