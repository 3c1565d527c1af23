"""Draws photos of synthetic parts with and without defects, for `data.synthetic`."""
