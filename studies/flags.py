"""Flags of `codegraph sweep` and `codegraph reproduce`, which other commands do not have."""

from typing import Any

from absl import flags

from codegraph_jax.core.errors import UserError


def define() -> None:
    """Defines the flags, unless they are; to be called before the command line is parsed."""
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


def values() -> dict[str, Any]:
    """The arguments `groups`, `subsets` and `seeds` of a sweep.

    Raises:
        UserError: a seed is not a whole number.
    """
    given = flags.FLAGS
    if wrong := [seed for seed in given.seeds if not seed.isdecimal()]:
        raise UserError(f"--seeds: {wrong[0]!r} is not a whole number from 0")
    return {"groups": given.categories, "subsets": given.subsets, "seeds": [int(seed) for seed in given.seeds]}
