"""Recognises known patterns in a new set, on groups and on single images [ours]."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.consistency.groups import PatternMatch, RecurringPatterns
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.signature import make_signatures, recognise_all
from codegraph_jax.similarity.comparison import Comparison

MIN_MEMBER_SHARE = 0.5
"""Minimum share of the members of a group that must show a known pattern."""


def with_signatures(
    recurring: RecurringPatterns, member_patches: Bool[np.ndarray, "n p"], comparison: Comparison
) -> RecurringPatterns:
    """Adds signatures to the groups, and the product; `member_patches` show the pattern of their group."""
    if not recurring.groups:
        return recurring
    members = [group.members for group in recurring.groups]
    signatures = make_signatures(comparison.features, members, member_patches)
    groups = (replace(group, signature=signature) for group, signature in zip(recurring.groups, signatures))
    product = Product.of(comparison.features.image_features[: comparison.set_size])
    return replace(recurring, groups=tuple(groups), product=product)


def with_verdicts(
    recurring: RecurringPatterns, patterns: Sequence[Pattern], comparison: Comparison
) -> tuple[RecurringPatterns, dict[int, Bool[np.ndarray, "n p"]]]:
    """Applies the verdicts of known patterns to groups, and finds other images that show them.

    Returns:
        The result with verdicts and matches; and for the number of each match the patches of non-members of its
        groups that show the pattern. Patterns of other products are not used.
    """
    own = comparison.features.image_features[: comparison.set_size]
    known: list[Pattern] = []
    others: list[Pattern] = []
    for pattern in patterns:
        (known if pattern.product.fits(own) else others).append(pattern)
    recurring = replace(recurring, others=tuple(others))
    if not known:
        return recurring, {}
    pattern_patches = recognise_all([pattern.signature for pattern in known], comparison.features)
    groups = list(recurring.groups)
    numbers: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        shares = pattern_patches[:, list(group.members)].any(axis=2).mean(axis=1)
        best = int(shares.argmax())
        if shares[best] >= MIN_MEMBER_SHARE:
            pattern = known[best]
            groups[index] = replace(group, verdict=pattern.verdict, name=pattern.name, reviewed=True)
            numbers.setdefault(best, []).append(index + 1)

    matches, elsewhere = [], {}
    last = len(groups)
    for k, pattern in enumerate(known):
        members = [i for number in numbers.get(k, ()) for i in groups[number - 1].members]
        pattern_patches[k, members] = False
        images = sorted({*members, *np.flatnonzero(pattern_patches[k].any(axis=1)).tolist()})
        if k in numbers:
            number = numbers[k][0]
        else:
            number = last = last + 1
        matches.append(PatternMatch(pattern, number, tuple(images)))
        elsewhere[number] = pattern_patches[k]
    return replace(recurring, groups=tuple(groups), matches=tuple(matches)), elsewhere


def pattern_numbers_of(
    patches_by_pattern: Mapping[int, Bool[np.ndarray, "n p"]], defects: Collection[int], shape: tuple[int, ...]
) -> Int[np.ndarray, "n p"]:
    """The number of the pattern that each patch shows, or 0; of several patterns a defect, then the lowest number."""
    pattern_numbers = np.zeros(shape, np.int16)
    for number in sorted(patches_by_pattern, key=lambda number: (number in defects, -number)):
        pattern_numbers[patches_by_pattern[number]] = number
    return pattern_numbers
