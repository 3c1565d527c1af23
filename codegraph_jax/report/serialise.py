"""Writes anomaly maps and image graphs; equal results give identical files."""

import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence

import networkx as nx
import numpy as np

from codegraph_jax.core.files import whole_file
from codegraph_jax.core.names import printable

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Fixed time of the members of zip files, so that equal results give identical files."""

HALF = np.dtype("<f2")


def write_arrays(
    path: str | os.PathLike[str], arrays: Iterable[tuple[str, tuple[int, ...], Iterable[np.ndarray]]]
) -> None:
    """Writes an .npz archive of float16 arrays in parts, so that no array has to be in memory as a whole.

    Args:
        path: the file.
        arrays: name, shape and parts (consecutive rows) of each array.
    """
    with whole_file(path) as name, zipfile.ZipFile(name, "w") as archive:
        for key, shape, parts in arrays:
            member = zipfile.ZipInfo(f"{printable(key)}.npy", EPOCH)
            with archive.open(member, "w", force_zip64=True) as stream:
                header = {"descr": HALF.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for part in parts:
                    stream.write(part.astype(HALF).tobytes())


def write_graph(path: str | os.PathLike[str], graph: nx.Graph, paths: Sequence[str], groups: Mapping[int, int]) -> None:
    """Writes the image graph as GraphML: nodes by row in scores.csv with `path` and `group`, edges with `weight`.

    Args:
        path: the file.
        graph: nodes are image indices, edges have `weight`.
        paths: paths of all images.
        groups: {image: number of its group}; may lack images.
    """
    plain = nx.Graph()
    for node in sorted(graph.nodes):
        group = {"group": groups[node]} if node in groups else {}
        # XML allows neither control characters nor bytes outside UTF-8
        plain.add_node(int(node), path=printable(paths[node]), **group)
    for first, second, weight in sorted((min(a, b), max(a, b), float(w)) for a, b, w in graph.edges(data="weight")):
        plain.add_edge(int(first), int(second), weight=weight)
    with whole_file(path) as name:
        # this writer does not use lxml, so the bytes do not depend on installed packages
        nx.write_graphml_xml(plain, name)
