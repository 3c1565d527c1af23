"""Draws photos of synthetic parts with and without defects, for `data.synthetic` and `data.plates`."""
