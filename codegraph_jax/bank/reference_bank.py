"""A reference bank: what a set has taught, in one file that judges single new images.

    result = CoDeGraph(backbone="dinov2-base").detect(paths, bank_references=32)
    result.bank.save("parts.safetensors")
    bank = ReferenceBank.load("parts.safetensors")
    bank.score_samples(new_paths)

By an exact bank a new image is scored as it would be by `detect(paths, added=new_paths)` with the bank's images as the
only references: patches that show a recurring defect do not serve, and photographs of one and the same part do not
serve each other. A compact bank (`bank.pool`) comes close to that in a tenth of the time or less. Either way the
threshold is the one that the set's own scores gave, and what a person has called a harmless variant counts as normal.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import maximum_filter

from codegraph_jax.backbones import Backbone, load_backbone, weights_identity
from codegraph_jax.bank.exact import ReferenceImages
from codegraph_jax.bank.file import BankError, StoredBank
from codegraph_jax.bank.history import KEPT_PARTS, MOST_PARTS, Chapter
from codegraph_jax.bank.pool import Pool
from codegraph_jax.bank.standouts import APART, Standouts
from codegraph_jax.config import DataConfig, DevicesConfig, ThresholdConfig
from codegraph_jax.consistency.community import Sighting
from codegraph_jax.consistency.filtered import excuse
from codegraph_jax.consistency.recognition import numbered
from codegraph_jax.consistency.signature import patch_vectors
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import Source
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import Inspected, Roi
from codegraph_jax.distributed.devices import device_mesh
from codegraph_jax.features.extraction import Extractor, Features
from codegraph_jax.scoring.maps import content_maps, image_scores
from codegraph_jax.scoring.threshold import Calibration, calibrate

CHUNK = 16
"""Images whose features wait in memory."""


@dataclass(frozen=True)
class Inspection:
    """Scores of n new images; larger means more anomalous.

    Attributes:
        kept: which of the given images these are (those that could be read) [n].
        skipped: (index, reason) of the images that could not be read.
        patch_scores: mutual scores, distances in [0, 2]; [n, h, w].
        scores: greatest value of each image's anomaly map [n].
        p_values: how often a normal image scores so high [n].
        flagged: which scores reach the threshold of the bank [n].
        placement: where each photograph lies in its grid of patches, and what of it is judged.
        shows: the number of the pattern that a patch shows, from 1 as the sightings have it; 0: none [n, h, w].
        inspected: what of each image is inspected; empty: everything.
        sightings: what recurred in the set of the bank, and in which of the n images it is seen again.
        standouts: what stands out in each image, away from what shows a pattern; empty where it was not asked for.
    """

    kept: Int[np.ndarray, " n"]
    skipped: list[tuple[int, str]]
    patch_scores: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    p_values: Float[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    placement: Placement
    shows: Int[np.ndarray, "n h w"]
    sightings: tuple[Sighting, ...]
    inspected: Sequence[Inspected] = ()
    standouts: Sequence[Standouts] = ()


@dataclass(frozen=True)
class ReferenceBank(StoredBank):
    """The references of a set, and its threshold, with the backbone that makes features to hold against them.

    Attributes:
        backbone: ready to run; the other attributes are those of `StoredBank`.

    Examples:
        >>> from codegraph_jax import CoDeGraph
        >>> from codegraph_jax.data.synthetic import draw_set
        >>> photographs = list(draw_set(8, 64, 0, 0.2, ()).images)  # or the paths of files
        >>> detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=56, blocks=(1, 3))
        >>> bank = detector.detect(photographs[:6], bank_references=4).bank
        >>> bank.score_samples(photographs[6:]).shape
        (2,)

    See Also:
        CoDeGraph: makes a bank of a set.
    """

    backbone: Backbone

    def inspect(
        self,
        images: Sequence[Source],
        data: DataConfig | None = None,
        progress: Progress = lambda images: None,
        standouts: float | None = None,
    ) -> Inspection:
        """Scores new images, each by the references alone.

        Args:
            images: files or uint8 arrays ([h, w], [h, w, 3]).
            data: how many threads decode, and what happens to unreadable images (default: they are skipped).
            progress: called with the number of images just done.
            standouts: score from which patches are listed as standing out; None: they are not looked for.

        Raises:
            UnreadableImage: one cannot be decoded and `data.unreadable` is `error`.
        """
        data = data or DataConfig()
        inspected = self._inspected(images, data.roi)
        placements = [Placement(self.frame, np.zeros((0, 2), int))]
        extractor = self.extractor(data.workers, data.unreadable)
        grid = self.frame.grid
        patches = grid[0] * grid[1]
        kept, skipped, scores = [np.zeros(0, int)], [], [np.zeros((0, patches), np.float32)]
        shows = [np.zeros((len(self.patterns), 0, patches), bool)]
        found: list[Standouts] = []
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            features = extractor.extract(chunk, depth=self.depth)
            if inspected:
                features = features.where_inspected(inspected[start : start + CHUNK], chunk)
            placements.append(features.placement)
            kept.append(features.kept + start)
            skipped += [(i + start, reason) for i, reason in features.skipped]
            for i in range(len(features.kept)):
                judged = None if features.placement.judged is None else features.placement.judged[i]
                scores.append(self.serving.scores([layer[i] for layer in features.layers], judged)[None])
                progress(1)
            progress(len(features.skipped))
            shows.append(self._recognise(features))
            if standouts is not None:
                own = [rows[0] for rows in scores[len(scores) - len(features.kept) :]]
                found += self._standouts(features, own, shows[-1], standouts)
        shown = np.concatenate(shows, axis=1)
        verdicts = np.array([pattern.verdict for pattern in self.patterns], str)
        excused = np.asarray(shown[verdicts == "variant"].any(axis=0))
        numbers = numbered(
            dict(enumerate(shown, 1)), (np.flatnonzero(verdicts == "defect") + 1).tolist(), shown.shape[1:]
        )
        patch_scores = np.maximum(excuse(np.concatenate(scores), excused), 0).reshape(-1, *grid)
        placement = Placement.joined(placements)
        raw = image_scores(patch_scores, placement.frame.size, placement.contents())
        calibration = self.calibration.of(raw)
        return Inspection(
            kept=np.concatenate(kept),
            skipped=skipped,
            patch_scores=patch_scores,
            scores=raw,
            p_values=calibration.p_values,
            flagged=calibration.flagged,
            placement=placement,
            shows=numbers.reshape(-1, *grid),
            sightings=tuple(
                Sighting(pattern, number, tuple(np.flatnonzero(patches.any(axis=1)).tolist()))
                for number, (pattern, patches) in enumerate(zip(self.patterns, shown), 1)
            ),
            inspected=[inspected[i] for i in np.concatenate(kept)] if inspected else (),
            standouts=found,
        )

    def score_samples(self, images: Sequence[Source]) -> Float[np.ndarray, " n"]:
        """Anomaly score of each image [n]: LARGER means MORE anomalous.

        scikit-learn's `score_samples` of outlier detectors has the opposite sign.

        Raises:
            UnreadableImage: one cannot be decoded; scores would no longer stand beside their images.
        """
        return self.inspect(images, DataConfig(unreadable="error")).scores

    def maps(self, images: Sequence[Source], size: int | tuple[int, int] | None = None) -> Float[np.ndarray, "n a b"]:
        """Anomaly maps of whole photographs, errors as `score_samples`.

        Args:
            images: as for `inspect`.
            size: pixels a side, or (height, width); default: that of the grid as the backbone sees it.
        """
        inspection = self.inspect(images, DataConfig(unreadable="error"))
        return content_maps(inspection.patch_scores, size or self.frame.size, inspection.placement.contents())

    def flag(self, images: Sequence[Source]) -> Bool[np.ndarray, " n"]:
        """Whether each image reaches the threshold that the set has taught; errors as `score_samples`."""
        return self.inspect(images, DataConfig(unreadable="error")).flagged

    @classmethod
    def load(cls, path: str, weights: str = "", backbone: Backbone | None = None) -> "ReferenceBank":
        """Reads a bank and finds the weights that it was made with.

        Args:
            path: a file that `save` has written.
            weights: where they are, as `config.backbone.weights`; empty: the preset's own sources.
            backbone: takes the place of `weights`.

        Raises:
            BankError: the file is no bank, or the weights are not those that it was made with.
            ConfigError: the weights cannot be found.
        """
        stored = StoredBank.read(path)
        settings = replace(stored.settings, weights=weights or stored.settings.weights)
        backbone = backbone or load_backbone(settings)
        if weights_identity(backbone.weights) != stored.weights:
            raise BankError(
                f"{path}: was made with weights {stored.weights!r}, and these are {backbone.weights!r}; give the "
                "former as config.backbone.weights, or make the bank again"
            )
        if len(backbone.blocks) != stored.references.depth:
            raise BankError(
                f"{path}: holds {stored.references.depth} layers, and its settings name {len(backbone.blocks)}"
            )
        if stored.frame.patch != backbone.preset.patch_size:
            raise BankError(f"{path}: no reference bank (its patches are not those of {backbone.preset.name})")
        known = {field.name: getattr(stored, field.name) for field in fields(StoredBank)}
        return cls(**{**known, "settings": settings, "weights": backbone.weights}, backbone=backbone)

    def extend(self, images: Sequence[Source], names: Sequence[str] = (), when: str = "") -> "ReferenceBank":
        """The bank with parts besides that a person has approved: what they show is normal from now on.

        Of more than `history.MOST_PARTS` approved parts the oldest leave; the set that made the bank stays. The
        threshold follows: it is learnt from the scores of the set and those of the approved parts, each by the bank
        without itself. Parts that are there already, pixel by pixel, are passed over.

        Args:
            images: as for `inspect`.
            names: what the parts are called; default: their files.
            when: ISO 8601.

        Raises:
            UnreadableImage: one cannot be decoded; nothing is added.
            BankError: nothing is left to add.
        """
        names = names or [str(image) if isinstance(image, str | os.PathLike) else "array" for image in images]
        features = self.extractor().extract(images, depth=self.depth, once=True)
        if inspected := self._inspected(images, ""):
            features = features.where_inspected(inspected, images)
        known = {key for chapter in self.history for key in chapter.keys}
        new = [i for i, key in enumerate(features.keys) if key.hex() not in known]
        if not new:
            raise BankError("these parts are in the bank already")
        first, last = self.history[-1].last + 1, self.history[-1].last + len(new)
        layers = [np.asarray(layer)[new] for layer in features.layers]
        references = self.references.extended(layers, first)
        scores = np.array([self._score_of(features, i, references.at(last, n)) for n, i in enumerate(new, first)])
        calibration = self._calibrated(scores)
        chapter = Chapter(
            when,
            tuple(str(names[features.kept[i]]) for i in new),
            tuple(features.keys[i].hex() for i in new),
            last,
            calibration,
        )
        taught = self.taught and replace(self.taught, approved=np.concatenate([self.taught.approved, scores]))
        return replace(
            self,
            references=references.until(last, KEPT_PARTS),
            calibration=calibration,
            taught=taught,
            history=(*self.history, chapter),
        )

    def back_to(self, chapter: int) -> "ReferenceBank":
        """The bank as it was after a chapter of its history, from 0.

        Raises:
            BankError: there is none, or what served then is no longer kept.
        """
        if not 0 <= chapter < len(self.history):
            raise BankError(f"the history of this bank has the chapters 0 to {len(self.history) - 1}, not {chapter}")
        then = self.history[chapter]
        needed = range(max(1, then.last - MOST_PARTS + 1), then.last + 1)
        # an approved part that added nothing has no entry; those that were dropped were the oldest
        oldest = max(1, self.history[-1].last - KEPT_PARTS + 1)
        if needed and needed[0] < oldest:
            raise BankError(f"what served after chapter {chapter} is no longer kept: the last {KEPT_PARTS} parts are")
        taught = self.taught and replace(self.taught, approved=self.taught.approved[: then.last])
        return replace(
            self,
            references=self.references.until(then.last, KEPT_PARTS),
            calibration=then.calibration,
            taught=taught,
            history=self.history[: chapter + 1],
        )

    @cached_property
    def serving(self) -> ReferenceImages | Pool:
        """What of the references an image is held against now."""
        last = self.history[-1].last
        return self.references.at(last) if last else self.references

    def _score_of(self, features: Features, image: int, references: ReferenceImages | Pool) -> float:
        """The raw score of one image by some references."""
        placement = features.placement.of([image])
        judged = None if placement.judged is None else placement.judged[0]
        scores = references.scores([layer[image] for layer in features.layers], judged)[None]
        shown = self._recognise(replace(features, layers=[np.asarray(x[image])[None] for x in features.layers],
                                        kept=np.arange(1)))  # fmt: skip
        variants = np.array([pattern.verdict == "variant" for pattern in self.patterns], bool)
        maps = np.maximum(excuse(scores, shown[variants].any(axis=0)), 0).reshape(-1, *self.frame.grid)
        return float(image_scores(maps, self.frame.size, placement.contents())[0])

    def _calibrated(self, approved: Float[np.ndarray, " k"]) -> Calibration:
        """The thresholds learnt from the set, the approved parts so far that serve, and some more."""
        if self.taught is None or self.calibration.rule != "rate":
            return self.calibration
        own = self.taught.scores if self.taught.proven.all() else self.taught.scores[~self.taught.proven]
        scores = np.concatenate([own, np.concatenate([self.taught.approved, approved])[-MOST_PARTS:]])
        rate = min(max(self.calibration.expected_rate, 1e-6), 0.5)
        return calibrate(scores, ThresholdConfig(false_alarm_rate=rate, at_most=self.calibration.at_most))

    @cached_property
    def name(self) -> str:
        """The beginning of a digest of what the bank scores by: two banks of one name give the same verdicts."""
        digest = hashlib.blake2b(digest_size=6)
        for array in self.serving.arrays():
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        digest.update(repr((self.weights, self.calibration.threshold)).encode())
        return digest.hexdigest()

    def extractor(self, workers: int = 2, unreadable: str = "error") -> Extractor:
        """What makes features of images as the bank wants them."""
        settings = (self.frame, self.settings.batch_size, workers, unreadable, self.tokens)
        return _extractor(self.backbone, *settings)

    def _recognise(self, features: Features) -> Bool[np.ndarray, "s b p"]:
        """Which patches of some images show which pattern."""
        if not self.patterns or not len(features.kept):
            return np.zeros((len(self.patterns), len(features.kept), self.frame.grid[0] * self.frame.grid[1]), bool)
        vectors = patch_vectors(features.layers, self.frame.grid)
        return np.stack([pattern.signature.shown(vectors) for pattern in self.patterns])

    def _standouts(
        self,
        features: Features,
        scores: Sequence[Float[np.ndarray, " p"]],
        shows: Bool[np.ndarray, "s b p"],
        least: float,
    ) -> Iterator[Standouts]:
        """What stands out in each of some images, away from patches that show a pattern: neighbours tell of it too."""
        for i, own in enumerate(scores):
            known = maximum_filter(shows[:, i].any(axis=0).reshape(self.frame.grid), APART).ravel()
            unknown = np.where(known, -1, own)
            if unknown.max() < least:
                yield Standouts.nothing(sum(layer.shape[-1] for layer in features.layers))
            else:
                (vectors,) = patch_vectors([np.asarray(layer[i])[None] for layer in features.layers], self.frame.grid)
                yield Standouts.of(vectors, unknown.reshape(self.frame.grid), least)

    def _inspected(self, images: Sequence[Source], roi: str) -> Sequence[Inspected]:
        """What of each photograph is inspected, by a place of the kind of `config.data.roi` or as the set was."""
        known = roi if roi else self.roi
        return () if known is None else Roi.of(known).each([str(image) for image in images])


@lru_cache(maxsize=4)
def _extractor(
    backbone: Backbone, frame: Frame, batch_size: int, workers: int, unreadable: str, tokens: np.dtype[Any]
) -> Extractor:
    """Kept, since it holds a compiled program, which all banks of a backbone share."""
    return Extractor(backbone, device_mesh(DevicesConfig(devices=1)), frame, batch_size, workers, unreadable, tokens)
