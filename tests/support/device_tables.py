"""Tables on devices."""

import numpy as np

from codegraph_jax.similarity.device_tables import DeviceTables, distances_on_devices
from codegraph_jax.similarity.table_layout import TableLayout


def tables_on(mesh, layers, references, options, inspected=None, advance=lambda pairs: None):
    """The tables of some layers of all images, computed on the devices of the mesh."""
    layout = TableLayout.of(mesh, len(layers[0]), references)
    inspected = np.ones(layers[0].shape[:2], bool) if inspected is None else inspected
    tables = [distances_on_devices(layer, options, layout, inspected, advance) for layer in layers]
    return DeviceTables(tables, layers, options, layout)
