"""Draws photographs of a machined part, sound or defective; `codegraph_jax.data.synthetic` makes sets of them."""
