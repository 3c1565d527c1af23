"""Verdicts of a person on what recurs, in a file: they hold for every later lot of the same product. [ours]

Statistics cannot tell every recurring defect from every harmless variant of good parts. A person looks at the groups of
a report, says what each is, and gives it a name. Verdicts are tied to what the patterns look like, not to file names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import write_json

FORMAT = "codegraph-review-2"
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What values of the wrong kind raise where they are read."""


class ReviewError(UserError):
    """A file that is no review, or one of other features."""


@dataclass(frozen=True)
class Review:
    """Verdicts on patterns.

    Attributes:
        features: what the features of the images depend on (`backbones.features_identity`): signatures of other
            features mean nothing.
        patterns: what has been judged.
    """

    features: Mapping[str, Any]
    patterns: tuple[Pattern, ...] = ()

    def save(self, path: str) -> None:
        """Writes it as JSON.

        Raises:
            OSError: it cannot be written.
        """
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """For a file; `load` reads it."""
        patterns = [pattern.as_json() for pattern in self.patterns]
        return {"format": FORMAT, "features": dict(self.features), "patterns": patterns}

    @classmethod
    def load(cls, path: str) -> "Review":
        """What `save` or a report has written.

        Raises:
            ReviewError: there is no such file, or it is no review.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ReviewError(f"{path}: cannot be read ({error.strerror or error})") from None
        except (ValueError, RecursionError) as error:
            raise ReviewError(f"{path}: is no review ({error}); a report makes one") from None
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}")
            return cls(dict(values["features"]), tuple(Pattern.from_json(pattern) for pattern in values["patterns"]))
        except MALFORMED as error:
            raise ReviewError(f"{path}: is no review ({type(error).__name__}: {error}); a report makes one") from None

    def check(self, features: Mapping[str, Any], path: str = "review") -> None:
        """Makes sure that signatures were made of the same features as a run's.

        Raises:
            ReviewError: names what differs.
        """
        differing = [name for name in features if self.features.get(name) != features[name]]
        if differing:
            name = differing[0]
            raise ReviewError(
                f"{path}: was made with other features ({name} {self.features.get(name)!r}, and this run has "
                f"{features[name]!r}); verdicts hold for the same weights and settings of the backbone only"
            )
