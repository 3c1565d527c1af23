"""A person's verdicts in a file: on groups of photos that share a pattern, and on single photos [ours].

Statistics cannot tell every recurring defect from every harmless variant of good parts, nor where in the ranking the
defective parts begin. A person looks at the groups and at some photos of a report and says what each is. Verdicts on
groups are tied to what the patterns look like, those on photos to the content of the photo, neither to file names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import write_json

FORMAT = "codegraph-review-2"
FILES = "review*.json"
"""What browsers call the file: review.json, review (1).json, ..."""
LONGEST_NOTE = 2000
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What values of the wrong kind raise where they are read."""

PhotoVerdict = Literal["defective", "good", "unsure"]


class ReviewError(UserError):
    """A file that is no review, or one of other features."""


@dataclass(frozen=True)
class PhotoReview:
    """What a person says of one photo.

    Attributes:
        key: digest of its content (`data.batches.image_key`), in hexadecimal.
        name: of its file, for people.
        category: that it belongs to.
        verdict: None where there is only a note.
        note: free text.
        mark: what stands out in it, once a run has seen the photo: a harmless variant where the photo is good, a defect
            where it is defective.
    """

    key: str
    name: str = ""
    category: str = ""
    verdict: PhotoVerdict | None = None
    note: str = ""
    mark: Pattern | None = None

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in get_args(PhotoVerdict):
            raise ValueError(f"verdict: {self.verdict!r} is none of {', '.join(get_args(PhotoVerdict))}")
        texts = self.key, self.name, self.category, self.note
        if not all(isinstance(text, str) and len(text) <= LONGEST_NOTE for text in texts):
            raise ValueError(f"a photo has texts of at most {LONGEST_NOTE} characters")

    @property
    def defective(self) -> bool | None:
        """As `ActiveCalibrator.label` takes it; None where the person is unsure."""
        return None if self.verdict == "unsure" else self.verdict == "defective"

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        values = {name: getattr(self, name) for name in ("key", "name", "category", "verdict", "note")}
        return values | ({"mark": self.mark.as_json()} if self.mark else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PhotoReview":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        mark = Pattern.from_json(values["mark"]) if values.get("mark") else None
        texts = {name: values.get(name, "") for name in ("name", "category", "note")}
        return cls(str(values["key"]), verdict=values["verdict"], mark=mark, **texts)


@dataclass(frozen=True)
class Decision:
    """A threshold that a person has set by hand, and the score (`scoring.variants`) that it is for."""

    score: str
    threshold: float

    def __post_init__(self) -> None:
        if not isinstance(self.score, str) or not abs(self.threshold) < float("inf"):
            raise ValueError("a decision has the name of a score and a finite threshold")


@dataclass(frozen=True)
class Review:
    """Verdicts on patterns and on photos.

    Attributes:
        features: what the features of the images depend on (`backbones.features_identity`): signatures of other
            features mean nothing.
        patterns: groups that have been judged.
        photos: by the key of their content.
        decisions: thresholds set by hand, by category.
        at_most: the greatest share of the photos that may be defective, by category.
    """

    features: Mapping[str, Any]
    patterns: tuple[Pattern, ...] = ()
    photos: Mapping[str, PhotoReview] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)

    def save(self, path: str) -> None:
        """Writes it as JSON.

        Raises:
            OSError: it cannot be written.
        """
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """For a file; `load` reads it."""
        return {
            "format": FORMAT,
            "features": dict(self.features),
            "patterns": [pattern.as_json() for pattern in self.patterns],
            "photos": [photo.as_json() for photo in self.photos.values()],
            "decisions": {category: vars(decision) for category, decision in self.decisions.items()},
            "at_most": dict(self.at_most),
        }

    @classmethod
    def load(cls, path: str) -> "Review":
        """What `save` or a report has written.

        Args:
            path: of the file (`find_review` finds it in a directory).

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
            photos = [PhotoReview.from_json(photo) for photo in values["photos"]]
            at_most = {str(category): float(share) for category, share in values.get("at_most", {}).items()}
            if not all(0 < share <= 1 for share in at_most.values()):
                raise ValueError("at_most: a share is above 0 and at most 1")
            return cls(
                dict(values["features"]),
                tuple(Pattern.from_json(pattern) for pattern in values["patterns"]),
                {photo.key: photo for photo in photos},
                {
                    str(category): Decision(decision["score"], float(decision["threshold"]))
                    for category, decision in values.get("decisions", {}).items()
                },
                at_most,
            )
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


def find_review(path: str) -> str:
    """The file of a review: the path itself, or the newest review*.json in a directory such as a download folder.

    Raises:
        ReviewError: there is no such directory, or it holds none.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        if not place.suffix and not place.exists():
            raise ReviewError(f"{path}: there is no such folder; name the one where your browser saved review.json")
        return str(place)
    try:
        found = sorted(place.glob(FILES), key=lambda file: file.stat().st_mtime)
    except OSError as error:
        raise ReviewError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not found:
        raise ReviewError(f"{path}: holds no file review*.json; save one from the report, or give the file itself")
    return str(found[-1])
