"""The result of a detection."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.consistency.copies import patterns_with_copies
from codegraph_jax.consistency.decision import Answers, calibrator_of
from codegraph_jax.consistency.groups import RecurringPatterns
from codegraph_jax.consistency.pattern import PatternVerdict
from codegraph_jax.consistency.review import PhotoReview, Review
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.json_fields import MALFORMED, JsonFields, not_in_json
from codegraph_jax.core.names import printable
from codegraph_jax.core.tables import data_frame
from codegraph_jax.core.tensors import DamagedTensorsError, read_tensors, write_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import load_image
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.samples import LABELS, Sample, not_saved
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.scoring.active_calibration import ActiveCalibrator, Answer
from codegraph_jax.scoring.maps import photo_maps, scale_ends
from codegraph_jax.scoring.photo_verdicts import PhotoVerdict, verdicts_of
from codegraph_jax.scoring.scores import STANDARD
from codegraph_jax.scoring.threshold import Calibration

if TYPE_CHECKING:
    from pandas import DataFrame

    from codegraph_jax.core.figures import Picture

logger = logging.getLogger(__name__)

FORMAT, RESULT_FILE = "codegraph-result-8", "result.safetensors"
"""Format and name of the file of a saved result."""
SCORE_PREFIX = "scores_"
"""Prefix of the arrays of `scores_by_name` in a saved result."""
ARRAYS = ("kept", "patch_scores", "scores", "scores_rescored", "p_values", "flagged")
"""Attributes that are saved as arrays."""
MAX_DRAWN_SIDE = 640
"""Longest side of a photo in a figure, in pixels."""


class SavedResultError(UserError):
    """The file of a saved result is missing, damaged, or has another format; the message names it."""


@dataclass(frozen=True)
class DetectionResult(JsonFields):
    """Scores of n images; larger means more anomalous.

    Attributes:
        kept: indices of the images among the given ones, without unreadable images [n].
        unreadable: (index, reason) of the images that could not be read.
        patch_scores: mean over layers and degrees of the mutual scores, a distance in [0, 2]; 0 for patches that are
            not inspected [n, h, w].
        scores: greatest value of each image's anomaly map, which is compared with the threshold [n].
        scores_rescored: image scores after re-scoring, in [0, 1] over the set; equal to `scores` without it [n].
        p_values: share of normal images that score as high [n].
        flagged: images that are flagged: by the threshold, as members of a recurring defect, or by a mark, without
            those whose defects `threshold.min_defect_length` tolerates; a person's answer overrides all of it [n].
        calibration: thresholds and distribution of normal scores, from the set's own scores.
        placement: position and inspected patches of each photo in its grid.
        weights_name: name of the backbone and its weights (`Backbone.weights_name`).
        feature_identity: weights and settings behind the features (`backbones.feature_identity`).
        seconds: wall time of each stage.
        recurring: recurring patterns, near-duplicates and the image graph.
        added_count: number of images at the end that are not references for the others; their `scores_rescored` may
            exceed 1.
        from_cache_count: number of images whose features came from the cache.
        value_range: values shown as black and white if images have more than 8 bits; None if all have 8 bits.
        product_ids: product of each image, 0 for the most frequent one (`consistency.mixed_products`) [n]; None if it
            was not determined.
        bank: the reference bank, if `detect` was asked for one.
        keys: digest of each image, in hexadecimal [n].
        score_name: name of the score in `patch_scores` and `scores` (`scoring.scores`).
        scores_by_name: image scores by name of the score, before harmless marks were clipped [n].
        answers: a person's answers to photos, as applied.
        reference_count: number of images that each image was compared with; None: compared with a bank.
        radius: greatest distance between compared patches along either axis; None: all patches were compared.
        samples: the images with their labels [n]; pixels that were given as arrays stay in memory. Empty if unknown.
    """

    kept: Int[np.ndarray, " n"] = field(metadata=not_in_json())
    unreadable: list[tuple[int, str]]
    patch_scores: Float[np.ndarray, "n h w"] = field(metadata=not_in_json())
    scores: Float[np.ndarray, " n"] = field(metadata=not_in_json())
    scores_rescored: Float[np.ndarray, " n"] = field(metadata=not_in_json())
    p_values: Float[np.ndarray, " n"] = field(metadata=not_in_json())
    flagged: Bool[np.ndarray, " n"] = field(metadata=not_in_json())
    calibration: Calibration
    placement: Placement = field(metadata=not_in_json())
    weights_name: str
    feature_identity: Mapping[str, Any]
    seconds: dict[str, float]
    recurring: RecurringPatterns = field(default_factory=RecurringPatterns)
    added_count: int = 0
    from_cache_count: int = 0
    value_range: ValueRange | None = None
    product_ids: Int[np.ndarray, " n"] | None = field(default=None, metadata=not_in_json())
    bank: ReferenceBank | None = field(default=None, metadata=not_in_json())
    keys: tuple[str, ...] = ()
    score_name: str = STANDARD.name
    scores_by_name: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict, metadata=not_in_json())
    answers: Answers = field(default_factory=Answers)
    reference_count: int | None = None
    radius: int | None = None
    samples: tuple[Sample, ...] = field(default=(), repr=False)

    def calibrator(self) -> ActiveCalibrator:
        """A calibrator that chooses threshold and score from answers, starting with the answers of this result.

        It asks about one photo after the other:

            calibrator = result.calibrator()
            while (photo := calibrator.suggest()) is not None:
                calibrator.answer(photo, ask(photo))  # "good", "defective" or "unsure"
            review = result.review(photos=calibrator.answers)
        """
        scores = self.scores_by_name or {STANDARD.name: self.scores}
        set_size = len(self.scores) - self.added_count
        keys = self.keys or tuple(map(str, range(len(self.scores))))
        label_free_threshold = self.calibration.threshold if self.score_name == next(iter(scores)) else np.inf
        return calibrator_of(scores, set_size, keys, self.recurring, label_free_threshold, self.answers)

    @property
    def verdicts(self) -> list[PhotoVerdict]:
        """The verdict on each image: flagged, check, passed or unknown (`scoring.photo_verdicts`) [n]."""
        calibrator, answers = self.calibrator(), self.answers.by_index(self.keys)
        return verdicts_of(
            self.flagged,
            self.scores,
            self.p_values,
            always_passed=self.tolerated | np.array([answers.get(i) == "good" for i in range(len(self.scores))], bool),
            defect_probabilities=calibrator.defect_probabilities if calibrator.has_enough_answers else None,
            enough_photos=not self.calibration.too_few_photos,
        )

    @property
    def tolerated(self) -> Bool[np.ndarray, " n"]:
        """Photos that reach the threshold, but show only defects shorter than `threshold.min_defect_length` [n]."""
        if not self.calibration.min_defect_length:
            return np.zeros(len(self.scores), bool)
        answers = self.answers.by_index(self.keys)
        reached: np.ndarray = (self.scores >= self.calibration.threshold) & ~self.flagged
        reached[[i for i, answer in answers.items() if answer != "unsure"]] = False
        return reached

    def __repr__(self) -> str:
        flagged, groups = int(self.flagged.sum()), len(self.recurring.groups)
        unreadable = f", {len(self.unreadable)} not read" if self.unreadable else ""
        some = f"{groups} group{'' if groups == 1 else 's'}"
        return f"DetectionResult({len(self.scores)} images, {flagged} flagged, {some}{unreadable})"

    def maps(
        self, images: slice | Sequence[int] = slice(None), size: int | tuple[int, int] | None = None
    ) -> Float[np.ndarray, "k a b"]:
        """Anomaly maps of some images, each covering exactly the photo.

        Args:
            images: a slice or indices; default: all.
            size: side in pixels, or (height, width); default: `map_size`.
        """
        return photo_maps(self.patch_scores[images], size or self.map_size, self.placement.rects(images))

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the grid in pixels of the backbone's input."""
        return self.placement.frame.size

    def review(
        self,
        patterns: Mapping[int, PatternVerdict | tuple[PatternVerdict, str]] | None = None,
        photos: Mapping[int, Answer] | None = None,
    ) -> Review:
        """A review with a person's verdicts on patterns and photos, for this set or the next batch.

            review = result.review(patterns={1: ("variant", "imprint"), 2: "defect"}, photos={17: "defective"})
            result = detector.score(comparison, review=review)

        Earlier verdicts stay unless they are replaced.

        Args:
            patterns: verdicts `defect`, `variant` or `undecided`, optionally with a name, by the number of a group
                (from 1) or match.
            photos: answers `good`, `defective` or `unsure` by index.

        Raises:
            KeyError: there is no such number.
            ValueError: too few patches show the pattern to recognise it again, or there is no such verdict.
        """
        given, found = patterns or {}, self.recurring.patterns
        for number in sorted(set(given) - {pattern.number for pattern in found})[:1]:
            known = f"the numbers are 1 to {len(found)}" if found else "none was found"
            raise KeyError(f"no pattern {number}: {known}")
        stored_patterns = list(self.recurring.others)
        for pattern in found:
            if not pattern.match and pattern.number not in given:
                continue
            stored = pattern.for_other_sets(self.recurring.product, len(self.scores))
            if stored is None:
                raise ValueError(f"group {pattern.number}: too few patches show the mark to recognise it again")
            wanted = given.get(pattern.number, stored.verdict)
            verdict, name = wanted if isinstance(wanted, tuple) else (wanted, stored.name)
            stored_patterns.append(replace(stored, verdict=verdict, name=name))
        answers = dict(self.answers.photos)
        for image, answer in (photos or {}).items():
            answers[self.keys[image]] = PhotoReview(self.keys[image], answer=answer)
        return Review(self.feature_identity, tuple(stored_patterns), answers)

    def with_copies(self, copies: Sequence[tuple[int, int]], source_count: int) -> "DetectionResult":
        """The result with identical copies of images, which get the scores, flags and groups of their originals.

        Args:
            copies: (source index, index of the original among the n images).
            source_count: number of sources in the set; further sources are added images.
        """
        if not copies:
            return self
        row_of = {int(source): row for row, source in enumerate(self.kept)} | dict(copies)
        # images of the set come before added images
        kept = np.array(sorted(row_of))
        rows = np.array([row_of[source] for source in kept.tolist()])
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in ARRAYS} | {"kept": kept},
            placement=self.placement.select(rows),
            recurring=patterns_with_copies(self.recurring, rows),
            product_ids=None if self.product_ids is None else self.product_ids[rows],
            keys=tuple(self.keys[i] for i in rows) if self.keys else (),
            scores_by_name={name: scores[rows] for name, scores in self.scores_by_name.items()},
            added_count=int((kept >= source_count).sum()),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each image, in the order of the result.

        The columns are those of scores.csv (docs/results.md), `given` (the index among the images that were given) and
        `photo_type`, the type that the layout states, such as `good`.
        """
        samples = self.samples or [Sample(f"image {index}", f"image {index}") for index in self.kept]
        ranks, verdicts, groups = self.ranks, self.verdicts, self.recurring.numbers_by_image()
        return [
            {
                "given": int(self.kept[i]),
                "path": printable(sample.path),
                "category": sample.category,
                "label": LABELS[sample.label],
                "photo_type": sample.photo_type,
                "score": float(self.scores[i]),
                "score_rescored": float(self.scores_rescored[i]),
                "rank": int(ranks[i]),
                "p_value": float(self.p_values[i]),
                "flagged": bool(self.flagged[i]),
                "verdict": verdicts[i],
                "group": groups.get(i),
            }
            for i, sample in enumerate(samples)
        ]

    def to_frame(self) -> "DataFrame":
        """`rows` as a pandas DataFrame, whose row i is the image i of `maps` and `plot`.

        `label`, `photo_type` and `group` may be missing.

        Raises:
            UserError: pandas is not installed.
        """
        # whole numbers that may be missing stay whole numbers
        return data_frame(self.rows()).astype({"group": "Int64"})

    def plot(self, image: int) -> "Picture":
        """A photo, and its anomaly map beside it; a notebook shows the figure, `savefig` writes it.

        Args:
            image: index in the result, from 0 (not in the list of images that were given).

        Raises:
            IndexError: there is no such image.
            UnreadableImageError: the file of the photo is gone.
        """
        if not 0 <= image < len(self.scores):
            raise IndexError(f"image {image}: the result has the images 0 to {len(self.scores) - 1}")
        return self._figure([image], beside=True)

    def plot_worst(self, count: int = 9) -> "Picture":
        """The most anomalous photos by rank, with their anomaly maps over them; see `plot`."""
        if count < 1:
            raise ValueError(f"count must be 1 or more, got {count}")
        return self._figure(np.argsort(self.ranks)[:count].tolist(), beside=False)

    def _figure(self, images: Sequence[int], beside: bool) -> "Picture":
        # matplotlib is imported when the first figure is drawn
        from codegraph_jax.core.figures import Panel, draw_panels

        verdicts, ranks = self.verdicts, self.ranks
        panels = []
        for i in images:
            name = printable(PurePath(self.samples[i].name).name) if self.samples else f"image {self.kept[i]}"
            title = f"{name}\n{self.scores[i]:.3f}, rank {ranks[i]}, {verdicts[i]}"
            panels.append(Panel(title, self.maps([i])[0], self._photo(i)))
        limits = scale_ends(self.placement.inspected_scores(self.patch_scores), [self.calibration.threshold])
        return draw_panels(panels, limits, beside)

    def _photo(self, image: int) -> np.ndarray | None:
        """The pixels of an image at the size of a figure; None if the result does not have them."""
        if not self.samples or self.samples[image].read is not_saved:
            return None
        photo = load_image(self.samples[image], self.value_range)
        photo.thumbnail((MAX_DRAWN_SIDE, MAX_DRAWN_SIDE))
        return np.asarray(photo)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Saves the result as result.safetensors in a directory, from which `load` restores it exactly.

        A warning lists what is not saved: the reference bank, which has a file of its own (`result.bank.save`), and the
        pixels of images and masks that were given as arrays. Of files the paths are saved.

        Raises:
            OSError: the file cannot be written.
        """
        self.write_file(Path(directory) / RESULT_FILE)
        unsaved = ["the reference bank (save it with result.bank.save)"] * (self.bank is not None)
        unsaved += ["the pixels of images without a file"] * any(not sample.is_file for sample in self.samples)
        unsaved += ["masks without a file"] * any(callable(sample.mask) for sample in self.samples)
        if unsaved:
            logger.warning("%s: not saved: %s", os.fspath(directory), ", ".join(unsaved))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> "DetectionResult":
        """The result that `save` wrote into a directory.

        Raises:
            SavedResultError: the file is missing, damaged, or has another format.
        """
        path = Path(directory) / RESULT_FILE
        try:
            return cls.read_file(path)
        except FileNotFoundError:
            raise SavedResultError(f"{str(path)!r}: no such file; give the directory that `save` wrote") from None
        except DamagedTensorsError as error:
            raise SavedResultError(f"{str(path)!r}: cannot be read ({error}); save the result again") from None

    def write_file(self, path: Path) -> None:
        """Writes the result without its bank to one file, as an interrupted run stores it; `read_file` restores it.

        Raises:
            OSError: the file cannot be written.
        """
        placement = self.placement
        arrays = {name: getattr(self, name) for name in ARRAYS} | {
            "pattern_numbers": self.recurring.pattern_numbers,
            "sizes": placement.sizes,
            "inspected": placement.inspected,
            "products": np.zeros(0, int) if self.product_ids is None else self.product_ids,
            **{SCORE_PREFIX + name: scores for name, scores in self.scores_by_name.items()},
        }
        about = {"format": FORMAT, "frame": placement.frame.as_json(), "score_names": list(self.scores_by_name)}
        write_tensors(path, {name: np.asarray(array) for name, array in arrays.items()}, about | self.as_json())

    @classmethod
    def read_file(cls, path: Path) -> "DetectionResult":
        """The result from a file of `write_file`, bit for bit.

        Raises:
            FileNotFoundError: the file does not exist.
            DamagedTensorsError: the file is damaged or has another format.
        """
        arrays, about = read_tensors(path)
        try:
            if (found := about.pop("format")) != FORMAT:
                raise ValueError(f"the format is {found!r}, this version reads {FORMAT!r}")
            product_ids = arrays["products"]
            frame, score_names = Frame.from_json(about.pop("frame")), about.pop("score_names")
            result = cls.from_json(
                about,
                **{name: arrays[name] for name in ARRAYS},
                placement=Placement(frame, arrays["sizes"], arrays["inspected"]),
                product_ids=product_ids if len(product_ids) else None,
                scores_by_name={name: arrays[SCORE_PREFIX + name] for name in score_names},
            )
            return replace(result, recurring=replace(result.recurring, pattern_numbers=arrays["pattern_numbers"]))
        except MALFORMED as error:
            raise DamagedTensorsError(f"{type(error).__name__}: {error}") from None

    @property
    def ranks(self) -> Int[np.ndarray, " n"]:
        """Rank of each image by `scores`, 1 for the most anomalous; ties keep the order of the images."""
        ranks = np.empty(len(self.scores), int)
        ranks[np.argsort(-self.scores, kind="stable")] = np.arange(1, len(self.scores) + 1)
        return ranks
