"""What has happened to a bank since a run made it: which parts a person has approved, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.scoring.threshold import Calibration

MOST_PARTS = 64
"""Approved parts that serve; of more the oldest leave. The set that made the bank stays."""
KEPT_PARTS = 3 * MOST_PARTS
"""Approved parts that the file keeps, so that a bank can go back."""


@dataclass(frozen=True)
class BankRevision:
    """One extension of a bank, or its beginning.

    Attributes:
        when: ISO 8601, UTC; empty where it is not known.
        names: what the approved parts are called; empty of the beginning.
        keys: digests of their pixels, in hexadecimal digits.
        last: number of the last part that was approved until then, from 1 over all extensions; 0 of the beginning.
        calibration: from then on.
        marks: places of the bank's marks that count from then on.
        defective: the parts were called defective, and are no references.
    """

    when: str
    names: tuple[str, ...]
    keys: tuple[str, ...]
    last: int
    calibration: Calibration
    marks: tuple[int, ...] = ()
    defective: bool = False

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return {
            "when": self.when,
            "names": list(self.names),
            "keys": list(self.keys),
            "last": self.last,
            "calibration": self.calibration.as_json(),
            "marks": list(self.marks),
            "defective": self.defective,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BankRevision":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        names, keys = (tuple(str(value) for value in values[name]) for name in ("names", "keys"))
        calibration = Calibration.from_json(values["calibration"], np.zeros(0), np.zeros(0, bool))
        marks, defective = tuple(int(place) for place in values["marks"]), bool(values["defective"])
        return cls(str(values["when"]), names, keys, int(values["last"]), calibration, marks, defective)


def withdrawn(history: Sequence[BankRevision]) -> set[int]:
    """Numbers of the approved parts that were called defective later on.

    Answers to photos of the set come from its report: these have no number, and their revisions do not raise `last`.
    """
    numbers: dict[str, int] = {}
    found: set[int] = set()
    for before, revision in zip(history, history[1:]):
        if revision.last > before.last:
            numbers |= {key: before.last + 1 + place for place, key in enumerate(revision.keys)}
        elif revision.defective:
            found.update(numbers.pop(key) for key in revision.keys if key in numbers)
    return found


def serving(parts: Int[np.ndarray, " k"], history: Sequence[BankRevision]) -> Bool[np.ndarray, " k"]:
    """Which entries of a bank new images are compared with after the last revision.

    Args:
        parts: number of the approved part that each entry comes from; 0: from the set.
        history: revisions of the bank.
    """
    last = history[-1].last
    chosen: Bool[np.ndarray, " k"] = (parts <= last) & (parts > last - MOST_PARTS)
    chosen &= ~np.isin(parts, list(withdrawn(history)))
    chosen |= parts == 0
    return chosen
