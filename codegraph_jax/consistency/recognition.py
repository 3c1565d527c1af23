"""What a person has judged before, seen again: verdicts on communities, and patterns too rare to make one [ours]."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.consistency.community import Consistency, PatternMatch
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.signature import make_signatures, recognise_all
from codegraph_jax.similarity.comparison import Comparison

MOST_OF = 0.5
"""A community shares a known pattern where at least this share of its members shows it."""


def with_signatures(found: Consistency, comparison: Comparison) -> Consistency:
    """Notes what the patterns of the communities look like, and what product they were seen on."""
    if not found.communities:
        return found
    members = [community.members for community in found.communities]
    shown = found.shows.reshape(comparison.own, -1) > 0
    signatures = make_signatures(comparison.features, comparison.options.grid, members, shown)
    communities = (replace(c, signature=signature) for c, signature in zip(found.communities, signatures))
    product = Product.of(comparison.features.image_features[: comparison.own])
    return replace(found, communities=tuple(communities), product=product)


def with_verdicts(
    found: Consistency, patterns: Sequence[Pattern], comparison: Comparison
) -> tuple[Consistency, dict[int, Bool[np.ndarray, "n p"]]]:
    """Gives communities the verdicts of the patterns that they share, and says where else these are seen.

    Args:
        found: what recurs, with the verdicts of the rule.
        patterns: what a person has judged; those of other products are left out.
        comparison: of all images.

    Returns:
        The same with verdicts and sightings; and for the number of each sighting the patches that are recognised by
        the signature alone, those of no member of its communities.
    """
    own = comparison.features.image_features[: comparison.own]
    known: list[Pattern] = []
    others: list[Pattern] = []
    for pattern in patterns:
        (known if pattern.product.fits(own) else others).append(pattern)
    found = replace(found, others=tuple(others))
    if not known:
        return found, {}
    signatures = [pattern.signature for pattern in known]
    recognised = recognise_all(signatures, comparison.features, comparison.options.grid)
    communities = list(found.communities)
    homes: dict[int, list[int]] = {}
    for place, community in enumerate(communities):
        shares = recognised[:, list(community.members)].any(axis=2).mean(axis=1)
        best = int(shares.argmax())
        if shares[best] >= MOST_OF:
            pattern = known[best]
            communities[place] = replace(community, verdict=pattern.verdict, name=pattern.name, reviewed=True)
            homes.setdefault(best, []).append(place + 1)

    sightings, elsewhere = [], {}
    further = len(communities)
    for k, pattern in enumerate(known):
        members = [i for number in homes.get(k, ()) for i in communities[number - 1].members]
        recognised[k, members] = False
        images = sorted({*members, *np.flatnonzero(recognised[k].any(axis=1)).tolist()})
        if k in homes:
            number = homes[k][0]
        else:
            number = further = further + 1
        sightings.append(PatternMatch(pattern, number, tuple(images)))
        elsewhere[number] = recognised[k]
    return replace(found, communities=tuple(communities), sightings=tuple(sightings)), elsewhere


def numbered(
    shows: Mapping[int, Bool[np.ndarray, "n p"]], defects: Collection[int], shape: tuple[int, ...]
) -> Int[np.ndarray, "n p"]:
    """One number for each patch, 0 where it shows nothing; of several a defect comes first, and a lower number.

    Args:
        shows: for each number the patches that show what it stands for.
        defects: the numbers of defects.
        shape: (n, p).
    """
    numbers = np.zeros(shape, np.int16)
    for number in sorted(shows, key=lambda number: (number in defects, -number)):
        numbers[shows[number]] = number
    return numbers
