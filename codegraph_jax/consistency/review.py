"""A person's verdicts in a file: on groups of photos that share a pattern, and on single photos [ours].

Statistics cannot distinguish every recurring defect from every harmless variant, nor show where in the ranking the
defective parts begin. Verdicts on groups belong to the appearance of their patterns, and verdicts on photos to the
content of the photos, so they do not depend on file names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import read_json, write_json
from codegraph_jax.core.json_fields import MALFORMED, JsonFields, not_in_json, optional_in_json
from codegraph_jax.scoring.active_calibration import Answer

FORMAT = "codegraph-review-5"
FILES = "review*.json"
"""Names that browsers give to the file: review.json, review (1).json, ..."""
MAX_NOTE_LENGTH = 2000


class ReviewError(UserError):
    """A file that is not a review, or a review with other features."""


@dataclass(frozen=True)
class PhotoReview(JsonFields):
    """A person's answer to one photo; the report writes no marks, and people leave out texts.

    Attributes:
        key: digest of its content (`data.batches.image_key`), in hexadecimal.
        name: name of its file, for people.
        category: its category.
        answer: the answer; None if there is only a note.
        note: free text.
        mark: pattern of the patches that stand out, added by a run: a harmless variant on a good photo, a defect on a
            defective one.
    """

    key: str
    name: str = field(default="", metadata=optional_in_json())
    category: str = field(default="", metadata=optional_in_json())
    answer: Answer | None = None
    note: str = field(default="", metadata=optional_in_json())
    mark: Pattern | None = field(default=None, metadata=optional_in_json())

    def __post_init__(self) -> None:
        self.require("key", "name", "category", "answer", "note")
        texts = self.key, self.name, self.category, self.note
        if any(len(text) > MAX_NOTE_LENGTH for text in texts):
            raise ValueError(f"a photo has texts of at most {MAX_NOTE_LENGTH} characters")


@dataclass(frozen=True)
class ManualThreshold(JsonFields):
    """A threshold set by hand, and the score (`scoring.scores`) that it is for."""

    score: str
    threshold: float

    def __post_init__(self) -> None:
        self.require("score", "threshold")
        if not abs(self.threshold) < float("inf"):
            raise ValueError("thresholds: give the name of a score and a finite threshold")


@dataclass(frozen=True)
class Review(JsonFields):
    """Verdicts on patterns, and answers to photos by their digests.

    Signatures cannot be used without the weights and settings behind the features (`backbones.feature_identity`).
    Thresholds set by hand, and the greatest shares of photos that may be defective, are given by category.
    `photos_digest` is that of the reviewed photos (`report.archive.digest_of_photos`); empty: unknown.
    """

    feature_identity: Mapping[str, Any]
    patterns: tuple[Pattern, ...] = ()
    photos: dict[str, PhotoReview] = field(default_factory=dict, metadata=not_in_json())
    thresholds: dict[str, ManualThreshold] = field(default_factory=dict, metadata=optional_in_json())
    max_defective: dict[str, float] = field(default_factory=dict, metadata=optional_in_json())
    photos_digest: str = field(default="", metadata=optional_in_json())

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in self.max_defective.values()):
            raise ValueError("max_defective: a share must be above 0 and at most 1")

    def save(self, path: str) -> None:
        """Writes the review as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Values for JSON; `load` reads them."""
        photos = [photo.as_json() for photo in self.photos.values()]
        return {"format": FORMAT, "photos": photos} | super().as_json()

    @classmethod
    def load(cls, path: str) -> "Review":
        """Reads a review from a file of `save` or of a report; `find_review` finds it in a directory.

        Raises:
            ReviewError: the file cannot be read or is not a review.
        """
        try:
            values = read_json(path)
        except OSError as error:
            raise ReviewError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            raise ReviewError(f"{path}: is not a review ({error}); save one from the report") from None
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}")
            photos = [PhotoReview.from_json(photo) for photo in values["photos"]]
            rest = {name: value for name, value in values.items() if name not in ("format", "photos")}
            return cls.from_json(rest, photos={photo.key: photo for photo in photos})
        except MALFORMED as error:
            problem = f"{type(error).__name__}: {error}"
            raise ReviewError(f"{path}: is not a review ({problem}); save one from the report") from None

    def for_photos(self, photos_digest: str) -> "Review":
        """The review for a run on these photos; without the counts of its patterns if it was made on the same photos.

        The counts are shown as those of a previous batch.
        """
        if photos_digest != self.photos_digest:
            return self
        return replace(
            self, patterns=tuple(replace(pattern, member_count=0, image_count=0) for pattern in self.patterns)
        )

    def check(self, feature_identity: Mapping[str, Any], path: str = "review") -> None:
        """Checks that the signatures belong to the features of a run.

        Raises:
            ReviewError: names the setting that differs.
        """
        differing = [name for name in feature_identity if self.feature_identity.get(name) != feature_identity[name]]
        if differing:
            name = differing[0]
            raise ReviewError(
                f"{path}: was made with other features ({name} is {self.feature_identity.get(name)!r}, in this run "
                f"{feature_identity[name]!r}); use the same weights and settings of the backbone, or make a new review"
            )


def find_review(path: str) -> str:
    """The file of a review: the path itself, or the newest review*.json in a directory such as a download folder.

    Raises:
        ReviewError: the directory does not exist, cannot be read or contains no review.
    """
    location = Path(path).expanduser()
    if not location.is_dir():
        if not location.suffix and not location.exists():
            raise ReviewError(f"{path}: there is no such folder; name the one where your browser saved review.json")
        return str(location)
    try:
        files = sorted(location.glob(FILES), key=lambda file: file.stat().st_mtime)
    except OSError as error:
        raise ReviewError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not files:
        raise ReviewError(f"{path}: contains no file review*.json; save one from the report, or give the file itself")
    return str(files[-1])
