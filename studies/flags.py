"""Flags of `codegraph sweep` and `codegraph reproduce`, which other commands do not have."""

from collections.abc import Mapping
from typing import Any

from absl import flags

from codegraph_jax.core.errors import UserError


def define() -> None:
    """Defines the flags if they are not defined yet. Call it before the command line is parsed."""
    if "categories" in flags.FLAGS:
        return
    flags.DEFINE_list("categories", [], "The categories, or classes of a trainer (--classes).")
    flags.DEFINE_alias("classes", "categories")
    flags.DEFINE_integer("subsets", 0, "Number of random halves.", lower_bound=0)
    flags.DEFINE_list("seeds", [], "The seeds of a trainer.")


def define_vary() -> None:
    """Defines the flags of a sweep."""
    define()
    if "vary" not in flags.FLAGS:
        flags.DEFINE_multi_string("vary", [], "A setting and its values, FIELD=VALUE,VALUE.")


def sweep_arguments(refused: Mapping[str, str]) -> dict[str, Any]:
    """The arguments `groups`, `subsets` and `seeds` of a sweep.

    Args:
        refused: flags that the sweep does not have, with the reason; the arguments of these are left out.

    Raises:
        UserError: a flag that the sweep does not have is given, or a seed is not a whole number.
    """
    given = flags.FLAGS
    for name, reason in refused.items():
        if given[name].present:
            raise UserError(f"--{name}: {reason}")
    if wrong := [seed for seed in given.seeds if not seed.isdecimal()]:
        raise UserError(f"--seeds: {wrong[0]!r} is not a whole number from 0")
    found = {"groups": given.categories, "subsets": given.subsets, "seeds": [int(seed) for seed in given.seeds]}
    return {name: value for name, value in found.items() if name not in refused}
