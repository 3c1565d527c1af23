"""Reads image sets of several layouts into one list of samples per category."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.names import composed
from codegraph_jax.data.folders import read_auto, read_folder, read_mvtec_form
from codegraph_jax.data.published import read_btad, read_kolektor, read_mvtec_ad_2, read_real_iad, read_visa
from codegraph_jax.data.samples import Categories, Sample
from codegraph_jax.data.search import LayoutError, natural_key, skipped_below
from codegraph_jax.data.tfds_layout import read_tfds

logger = logging.getLogger(__name__)


LAYOUTS: dict[str, Callable[[str, Sequence[str]], Categories]] = {
    "auto": read_auto,
    "folder": read_folder,
    "mvtec": read_mvtec_form,
    "mvtec_ad_2": read_mvtec_ad_2,
    "btad": read_btad,
    "visa": read_visa,
    "kolektor": read_kolektor,
    "real_iad": read_real_iad,
    "tfds": read_tfds,
}
"""Layouts by their name in `data.layout`: each returns the categories below a root, given the types or classes of good
parts."""


def read_layout(
    layout: str, root: str, categories: Sequence[str] = (), good: Sequence[str] = ()
) -> dict[str, list[Sample]]:
    """The samples of each category below `root`, sorted naturally by name.

    Args:
        layout: a name in `LAYOUTS`.
        root: directory of the data set.
        categories: categories to read, in this order; empty or ("all",) for all, in natural order. A category that is
            missing or has no images is skipped with a warning, as long as another remains.
        good: types (layout tfds: classes) of good parts; empty: the default of the layout.

    Raises:
        LayoutError: the layout is unknown, the directory or images are missing, or a list file is malformed.
    """
    if layout not in LAYOUTS:
        hint = did_you_mean(layout, LAYOUTS, f"known: {', '.join(sorted(LAYOUTS))}")
        raise LayoutError(f"config.data.layout: unknown layout {layout!r}; {hint}")
    if layout != "tfds" and not (layout in ("auto", "folder") and Path(root).is_file()):
        # gives the same error for every layout
        _require_directory(root)
    present = LAYOUTS[layout](root, good)
    if not present:
        form = (LAYOUTS[layout].__doc__ or "").strip().splitlines()[0]
        raise LayoutError(f"config.data.root: {root!r} holds no category of layout {layout!r}. {form}")
    wanted = list(dict.fromkeys(categories))
    if not wanted or (wanted == ["all"] and "all" not in present):
        wanted = sorted(present, key=natural_key)
    known = {composed(name): name for name in present}
    wanted = [known.get(composed(name), name) for name in wanted]
    absent = [name for name in wanted if name not in present]
    samples_by_name = {name: present[name]() for name in wanted if name in present}
    empty = [name for name, samples in samples_by_name.items() if not samples]
    samples_by_name = {name: samples for name, samples in samples_by_name.items() if samples}
    problems = []
    if absent:
        held = ", ".join(map(repr, sorted(present, key=natural_key)[:40]))
        problems.append(f"no category {', '.join(map(repr, absent))} below {root!r} (it holds {held})")
    if empty:
        skipped = "".join(f"; {line}" for line in skipped_below([root]).lines(all_suffixes=True))
        problems.append(f"category {', '.join(map(repr, empty))} in {root!r} contains no photos{skipped}")
    if problems and not samples_by_name:
        raise LayoutError("config.data.root: " + "; ".join(problems))
    for problem in problems:
        logger.warning("%s; skipped", problem)
    return samples_by_name


def _require_directory(root: str) -> None:
    try:
        with os.scandir(root):
            pass
    except (OSError, ValueError) as error:
        raise LayoutError(
            f"config.data.root: cannot list {root!r}: {getattr(error, 'strerror', None) or error}"
        ) from None
