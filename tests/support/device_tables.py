"""Tables on devices."""

from codegraph_jax.similarity.device_tables import DeviceTables, distances_on_devices
from codegraph_jax.similarity.table_layout import TableLayout


def tables_on(mesh, layers, references, options, inspected=None, advance=lambda pairs: None):
    """The tables of some layers of all images, computed on the devices of the mesh."""
    layout = TableLayout.of(mesh, len(layers[0]), references)
    tables = [distances_on_devices(layer, options, layout, advance, inspected) for layer in layers]
    return DeviceTables(tables, layers, options, layout)
