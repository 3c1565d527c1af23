"""A reference bank: the references and the threshold of a set in one file, to score single new images.

    result = CoDeGraph(backbone="dinov2-base").detect(paths, bank=BankConfig())
    result.bank.save("parts.safetensors")
    bank = ReferenceBank.load("parts.safetensors")
    bank.anomaly_scores(new_paths)

An exact bank scores a new image as `detect(paths, added=new_paths)` would with the bank's images as the only
references, without patches of a recurring defect and photos of the same part. A compact bank (`bank.pool`) gives
similar scores in a tenth of the time or less. The threshold comes from the scores of the set, and patterns with the
verdict "variant" count as normal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from codegraph_jax.backbones import Backbone, LoadedBackbone, as_loaded, backbone_named, is_preset, weights_identity
from codegraph_jax.bank.extending import extended
from codegraph_jax.bank.file import BankError, StoredBank
from codegraph_jax.bank.inspection import Inspection
from codegraph_jax.bank.peak_patches import PEAK_NEIGHBOURHOOD, PeakPatches
from codegraph_jax.config import DevicesConfig, PhotosConfig
from codegraph_jax.consistency.decision import flag_photos
from codegraph_jax.consistency.filtered_scores import clip_to_median
from codegraph_jax.consistency.groups import PatternMatch
from codegraph_jax.consistency.recognition import pattern_numbers_of
from codegraph_jax.consistency.signature import patch_vectors
from codegraph_jax.core.json_fields import not_in_json
from codegraph_jax.core.progress import Progress
from codegraph_jax.data.measured_range import may_lack_data
from codegraph_jax.data.own_sets import ImagesLike, as_samples
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import InspectedArea, Roi, areas_with_data, everything
from codegraph_jax.data.samples import Sample
from codegraph_jax.distributed.devices import device_mesh
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.features.features import Features
from codegraph_jax.scoring.active_calibration import Answer
from codegraph_jax.scoring.maps import image_scores

CHUNK = 16
"""Number of images whose features are in memory at once."""


class _Chunk(NamedTuple):
    """Results for up to `CHUNK` images from index `start`; `features` has no layers any more."""

    start: int
    features: Features
    scores: list[Float[np.ndarray, " p"]]
    pattern_patches: Bool[np.ndarray, "s b p"]
    peak_patches: list[PeakPatches]


@dataclass(frozen=True)
class ReferenceBank(StoredBank):
    """The references and the threshold of a set, with the backbone that computes features.

    Attributes:
        backbone: the loaded backbone; for the other attributes see `StoredBank`.

    Examples:
        >>> from codegraph_jax import CoDeGraph
        >>> from codegraph_jax.config import BankConfig
        >>> from codegraph_jax.data.synthetic import draw_set
        >>> photos = list(draw_set(8, 64, 0, 0.2, ()).images)  # or the paths of files
        >>> detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=56, blocks=(1, 3))
        >>> bank = detector.detect(photos[:6], bank=BankConfig()).bank
        >>> bank.anomaly_scores(photos[6:]).shape
        (2,)

    See Also:
        CoDeGraph: makes a bank of a set.
    """

    backbone: LoadedBackbone = field(metadata=not_in_json())

    def __repr__(self) -> str:
        return f"ReferenceBank({self.active_references}, threshold {self.calibration.threshold:.4f})"

    def inspect(
        self,
        images: ImagesLike,
        data: PhotosConfig | None = None,
        advance: Progress = lambda images: None,
        min_peak_score: float | None = None,
    ) -> Inspection:
        """Scores new images, each against the references only.

        Args:
            images: as for `CoDeGraph.detect`.
            data: the inspected area, and the handling of unreadable images (default: skipped).
            advance: called with the number of images just done.
            min_peak_score: the least score of a peak patch; None: peak patches are not computed.

        Raises:
            UserError: an item is not an image.
            UnreadableImageError: a file cannot be decoded and `data.unreadable` is `error`.
            BankError: a score is not a finite number.
        """
        data, images = data or PhotosConfig(), as_samples(images)
        areas = self._areas(images, data.roi)
        extractor = self.extractor(data.unreadable)
        # at least one chunk, so that no images give empty arrays
        chunks = [
            self._inspect_chunk(extractor, images, start, areas, advance, min_peak_score)
            for start in range(0, max(len(images), 1), CHUNK)
        ]
        return self._inspection(images, chunks, areas)

    def _inspection(
        self, images: Sequence[Sample], chunks: Sequence[_Chunk], areas: Sequence[InspectedArea]
    ) -> Inspection:
        """Maps, flags and recognised patterns of the images of all chunks."""
        patterns, grid = self.known_patterns, self.frame.grid
        kept = [int(i) + chunk.start for chunk in chunks for i in chunk.features.kept]
        pattern_patches = np.concatenate([chunk.pattern_patches for chunk in chunks], axis=1)
        verdicts = np.array([pattern.verdict for pattern in patterns], str)
        clipped = np.asarray(pattern_patches[verdicts == "variant"].any(axis=0))
        defects = (np.flatnonzero(verdicts == "defect") + 1).tolist()
        pattern_numbers = pattern_numbers_of(dict(enumerate(pattern_patches, 1)), defects, pattern_patches.shape[1:])
        mutual_scores = np.array([scores for chunk in chunks for scores in chunk.scores])
        mutual_scores = mutual_scores.reshape(len(mutual_scores), grid[0] * grid[1])
        patch_scores = self.combined_maps(clip_to_median(mutual_scores, clipped))
        placement = Placement.joined([chunk.features.placement for chunk in chunks])
        scores = image_scores(patch_scores, placement.frame.size, placement.rects())
        p_values = self.calibration.p_values(scores)
        for i in np.flatnonzero(~(np.isfinite(scores) & np.isfinite(p_values)))[:1].tolist():
            # comparisons with NaN are false, so the image would pass
            raise BankError(
                f"{images[kept[i]].path}: its score is not a finite number; the bank or the weights are damaged"
            )
        is_mark = np.array([pattern.origin == "photo" for pattern in patterns], bool)
        shows_defect_mark = pattern_patches[is_mark & (verdicts == "defect")].any(axis=(0, 2))
        areas = [areas[i] for i in kept]
        keys = [key.hex() for chunk in chunks for key in chunk.features.keys]
        by_key = self.answers_by_key
        answers: dict[int, Answer] = {
            i: "defective" if by_key[key] else "good" for i, key in enumerate(keys) if key in by_key
        }
        flagged = flag_photos(self.calibration, patch_scores, scores, placement, areas, shows_defect_mark, answers)
        image_features = np.concatenate([np.asarray(chunk.features.image_features, np.float32) for chunk in chunks])
        return Inspection(
            kept=np.array(kept, int),
            unreadable=[(i + chunk.start, reason) for chunk in chunks for i, reason in chunk.features.unreadable],
            patch_scores=patch_scores,
            scores=scores,
            p_values=p_values,
            flagged=flagged,
            placement=placement,
            pattern_numbers=pattern_numbers.reshape(-1, *grid),
            matches=tuple(
                PatternMatch(pattern, number, tuple(np.flatnonzero(patches.any(axis=1)).tolist()))
                for number, (pattern, patches) in enumerate(zip(patterns, pattern_patches), 1)
            ),
            areas=areas,
            peak_patches=[peaks for chunk in chunks for peaks in chunk.peak_patches],
            other_product=len(kept) > 0 and not self.product.fits(image_features),
        )

    def _inspect_chunk(
        self,
        extractor: Extractor,
        images: Sequence[Sample],
        start: int,
        areas: Sequence[InspectedArea],
        advance: Progress,
        min_peak_score: float | None,
    ) -> _Chunk:
        """The first `CHUNK` images from `start`; arguments as for `inspect`."""
        chunk = images[start : start + CHUNK]
        features = extractor.extract(chunk, value_range=self.value_range)
        features = features.masked(areas[start : start + CHUNK], chunk)
        scores = []
        for i in range(len(features.kept)):
            tokens = [layer[i] for layer in features.layers]
            scores.append(self.active_references.scores(tokens, features.placement.inspected[i]))
            advance(1)
        advance(len(features.unreadable))
        pattern_patches, peak_patches = self._pattern_patches(features), []
        if min_peak_score is not None:
            peak_patches = list(self._peak_patches(features, scores, pattern_patches, min_peak_score))
        return _Chunk(start, replace(features, layers=[]), scores, pattern_patches, peak_patches)

    def anomaly_scores(self, images: ImagesLike) -> Float[np.ndarray, " n"]:
        """Anomaly score of each image [n]; larger means more anomalous, unlike scikit-learn's `score_samples`.

        Raises:
            UnreadableImageError: an image cannot be decoded.
        """
        return self.inspect(images, PhotosConfig(unreadable="error")).scores

    @classmethod
    def load(cls, path: str, weights: str = "", backbone: Backbone | str = "") -> "ReferenceBank":
        """Reads a bank and loads its backbone.

        Args:
            path: a file that `save` has written.
            weights: source of the weights, as `config.backbone.weights`; empty: the source of the preset.
            backbone: a backbone or its name (`config.backbone.name`), needed if the bank was made with one of your own;
                empty: what the bank names.

        Raises:
            BankError: the file is not a bank, or the bank was made with other weights.
            ConfigError: the weights cannot be found.
        """
        stored = StoredBank.read(path)
        named = backbone if isinstance(backbone, str) else ""
        config = stored.backbone_config
        config = replace(config, weights=weights or config.weights, name=named or config.name)
        if not isinstance(backbone, str):
            loaded = as_loaded(backbone, config.image_size)
        elif named or is_preset(config.name):
            loaded = backbone_named(config, stored.token_dtype)
        else:
            # a file must not choose code that is imported and called
            raise BankError(
                f"{path}: was made with your own backbone, {stored.weights_name!r}, which is not in the file; give it: "
                "--backbone=FILE.py:NAME, or ReferenceBank.load(path, backbone=...)"
            )
        if weights_identity(loaded.weights_name) != stored.weights_name:
            raise BankError(
                f"{path}: was made with weights {stored.weights_name!r}, but these are {loaded.weights_name!r}; give "
                "the former as config.backbone.weights, or make the bank again"
            )
        layers = len(stored.references.layers)
        if len(loaded.blocks) != layers:
            raise BankError(f"{path}: holds {layers} layers, but its settings name {len(loaded.blocks)}")
        if stored.frame.patch_size != loaded.patch_size:
            raise BankError(f"{path}: is not a reference bank (its patch size is not that of {config.name})")
        stored = replace(stored, backbone_config=config, weights_name=loaded.weights_name)
        return cls(**vars(stored), backbone=loaded)

    def extend(
        self, images: ImagesLike, *, names: Sequence[str] = (), when: str = "", defective: bool = False
    ) -> "ReferenceBank":
        """The bank extended by answers to some parts.

        Good parts become references, and anomalies of good parts that were flagged count as harmless from now on.
        Defective parts, and parts with the same defect, are flagged from now on. The threshold does not change. A new
        answer replaces older ones: a mark of a defective part that is found on a good part is removed, and vice versa;
        a good part with the later answer "defective" is no longer a reference. The newest `history.MAX_PARTS` good
        parts are used in addition to the set. Parts (by their pixels) that have this answer already are skipped.

        Args:
            images: as for `inspect`.
            names: names of the parts; default: their files.
            when: ISO 8601.
            defective: whether the parts are defective.

        Raises:
            UnreadableImageError: an image cannot be decoded; nothing is added.
            BankError: all parts have this answer already.
        """
        images = as_samples(images)
        features = self.extractor().extract(images, value_range=self.value_range, drop_copies=True)
        features = features.masked(self._areas(images, ""), images)
        answers = self.answers_by_key
        new = np.flatnonzero([answers.get(key.hex()) is not defective for key in features.keys])
        if not len(new):
            raise BankError("all these parts have this answer already; nothing to add")
        features = features.select(new)
        names = names or [image.path for image in images]
        return extended(self, features, [str(names[source]) for source in features.kept], when, defective)

    def extractor(self, unreadable: str = "error") -> Extractor:
        """The feature extractor of the bank."""
        mesh, batch_size = device_mesh(DevicesConfig(devices=1)), self.backbone_config.batch_size
        return Extractor(self.backbone, mesh, self.frame, batch_size, unreadable=unreadable, dtype=self.token_dtype)

    def _pattern_patches(self, features: Features) -> Bool[np.ndarray, "s b p"]:
        """Patches on which each pattern is found."""
        known = self.known_patterns
        if not known or not len(features.kept):
            return np.zeros((len(known), len(features.kept), self.frame.grid[0] * self.frame.grid[1]), bool)
        vectors = patch_vectors(features.layers, self.frame.grid)
        return np.stack([pattern.signature.match_mask(vectors) for pattern in known])

    def _peak_patches(
        self,
        features: Features,
        scores: Sequence[Float[np.ndarray, " p"]],
        pattern_patches: Bool[np.ndarray, "s b p"],
        min_peak_score: float,
    ) -> Iterator[PeakPatches]:
        """Peak patches of each image, away from known patterns, which also affect neighbouring patches."""
        for i, patch_scores in enumerate(scores):
            known = scipy.ndimage.maximum_filter(
                pattern_patches[:, i].any(axis=0).reshape(self.frame.grid), PEAK_NEIGHBOURHOOD
            ).ravel()
            unknown = np.where(known, -1, patch_scores)
            if unknown.max() < min_peak_score:
                yield PeakPatches.empty(sum(layer.shape[-1] for layer in features.layers))
            else:
                (vectors,) = patch_vectors([np.asarray(layer[i])[None] for layer in features.layers], self.frame.grid)
                yield PeakPatches.of(vectors, unknown.reshape(self.frame.grid), min_peak_score)

    def _areas(self, images: Sequence[Sample], roi: str) -> Sequence[InspectedArea]:
        """Inspected area of each photo: `roi` (as `config.data.roi`) or the bank's, except pixels without data."""
        known = roi if roi else self.roi
        paths = [image.path for image in images]
        areas = [everything] * len(paths) if known is None else Roi.of(known).areas_of(paths)
        incomplete = [i for i, image in enumerate(images) if may_lack_data(image, self.value_range)]
        return areas_with_data(images, self.value_range, areas, incomplete)
