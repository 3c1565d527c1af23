"""Sweeps over settings on labelled images."""
