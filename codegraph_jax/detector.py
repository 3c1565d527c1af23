"""Zero-shot anomaly detection on a set of unlabelled images of one product.

Mutual scoring reproduces MuSc (arXiv:2401.16753). The consistency stages are named after those of CoDeGraph
(arXiv:2510.10456); docs/method.md separates the paper's rules from this project's.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.backbones import (
    Backbone,
    LoadedBackbone,
    PrecomputedBackbone,
    feature_identity,
    load_backbone,
    settings_and_backbone,
)
from codegraph_jax.backbones.presets import preset_of
from codegraph_jax.bank.making import BankInputs, check_bank, make_bank
from codegraph_jax.config import BankConfig, Config, RecurringConfig
from codegraph_jax.consistency.decision import Answers, PhotoDecisions, decide_photos
from codegraph_jax.consistency.filtered_scores import patch_scores_by_name
from codegraph_jax.consistency.groups import RecurringPatterns
from codegraph_jax.consistency.links import LinkFinder, burnout_links
from codegraph_jax.consistency.mixed_products import find_products, products_of
from codegraph_jax.consistency.review import Review
from codegraph_jax.consistency.stages import find_recurring_patterns
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.progress import Clock
from codegraph_jax.data.decoding import allow_megapixels
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.own_sets import ImagesLike, as_samples
from codegraph_jax.data.roi import Roi
from codegraph_jax.data.samples import Sample
from codegraph_jax.distributed.devices import DeviceMesh, device_mesh
from codegraph_jax.distributed.processes import errors_in_all_processes
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.features.memory import feature_type
from codegraph_jax.features.reading import frame_for, read_features
from codegraph_jax.features.set_plan import SetPlan
from codegraph_jax.features.token_set import TokenSet
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.rescoring import rescore
from codegraph_jax.scoring.scores import Score, score_of
from codegraph_jax.similarity.autotuning import autotune
from codegraph_jax.similarity.comparison import Comparison, compare_images
from codegraph_jax.similarity.comparison_scope import choose_scope
from codegraph_jax.similarity.host_tables import PatchScore
from codegraph_jax.similarity.plan import plan_set
from codegraph_jax.similarity.references import neighbour_count
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.stores import ResumeStore
from codegraph_jax.similarity.time_estimate import estimate, format_duration, is_affordable


class TooFewImagesError(UserError):
    """Fewer than two images of a set can be read."""


class CoDeGraph:
    """Finds anomalous images and regions in a set; a `ReferenceBank` of the set scores single new images.

    Args:
        config: settings of the run.
        backbone: shorthand for `config.backbone.name`; or a network of your own, any object with the attributes
            of `Backbone`; or a loaded backbone (`backbones.load_backbone`).
        score: replaces `config.scoring.score`; also your own, a function of (distances [m, p], k) that returns the
            scores of p patches, or a `scoring.scores.Score` (docs/research.md).
        **fields: shorthand for other fields of `config.backbone`, such as `image_size` and `weights`.

    Examples:
        >>> from codegraph_jax import CoDeGraph
        >>> from codegraph_jax.data.synthetic import draw_set
        >>> photos = list(draw_set(6, 64, 0, 0.2, ()).images)  # or the paths of files
        >>> detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=56, blocks=(1, 3))
        >>> result = detector.detect(photos)
        >>> result.scores.shape, result.maps().shape
        ((6,), (6, 56, 56))

    Attributes:
        config: the settings, with kernel and precision as chosen.
        backbone: the loaded network.
        autotuning_note: kernel and precision that autotuning chose, as a sentence; empty if nothing was timed.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        backbone: str | Backbone | None = None,
        score: str | Score | PatchScore | None = None,
        **fields: Any,
    ):
        settings, loaded = settings_and_backbone(config, backbone, fields)
        self.chosen_score = score_of(settings.scoring.score if score is None else score)
        # settings are checked before weights are downloaded
        if settings.bank.save:
            check_bank(settings, self.chosen_score)
        mesh = device_mesh(settings.parallel)
        if isinstance(loaded, PrecomputedBackbone):
            # kernel and precision are chosen when the tokens are known
            self.autotuning_note = ""
            self._set_up(settings, mesh, loaded)
            return
        traits = loaded or preset_of(settings.backbone)
        cells = settings.backbone.side // traits.patch_size
        settings, self.autotuning_note = autotune(settings, (cells, cells), traits.width)
        self._set_up(settings, mesh, loaded or load_backbone(settings.backbone, feature_type(settings.precision)))

    def _set_up(self, config: Config, mesh: DeviceMesh, backbone: LoadedBackbone) -> None:
        self.config, self.mesh, self.backbone = config, mesh, backbone
        allow_megapixels(config.data.max_megapixels)
        self.extractor = Extractor.of(config, backbone, mesh)

    def detect(
        self,
        images: ImagesLike,
        *,
        progress: bool = False,
        added: ImagesLike = (),
        bank: BankConfig | None = None,
        review: Review | None = None,
        roi: str | np.ndarray | None = None,
    ) -> DetectionResult:
        """Scores every image against the others.

        Args:
            images: at least two images of one product: files, uint8 arrays ([h, w], [h, w, 3]), Pillow images or
                samples; a dataset, or anything else that `as_samples` takes. Labels change no score.
            progress: whether to show progress bars on standard error.
            added: further images, which are scored against `images` without being references; last in the result.
            bank: kind and size of the bank to make, `result.bank`, which scores new images; None: no bank.
            review: a person's verdicts on patterns and photos, see `DetectionResult.review`.
            roi: the inspected area: an array [h, w] that is stretched over each photo, 0 outside; or a path as in
                `config.data.roi`. None: everything.

        Raises:
            ConfigError: these settings do not allow such a bank.
            ReviewError: `review` was made with other features.
            TooFewImagesError: fewer than two images can be read.
            NothingToCompareError: the photos of files are blank or all the same.
            UserError: `images` is a single image or empty, or an item is not an image.
            UnreadableImageError: a file cannot be decoded and `config.data.unreadable` is `error`, the default without
                `config`. With `skip`, `result.kept` lists the images that were scored.
        """
        self._check(bank, review, self.chosen_score)
        comparison = self.compare(images, progress=progress, added=added, roi=roi)
        return self.score(comparison, bank=bank, review=review)

    def compare(
        self,
        images: ImagesLike,
        *,
        progress: bool = False,
        added: ImagesLike = (),
        roi: str | np.ndarray | None = None,
    ) -> Comparison:
        """The slow half of `detect`: features of every image, and the distance of every patch to every reference image.

        Arguments and errors as for `detect`.
        """
        own, further = as_samples(images), as_samples(added, "added")
        samples = (*own, *further)
        areas = [] if roi is None else Roi.of(roi).areas_of([sample.path for sample in samples])
        plan = plan_set(self.config, self.backbone, self.mesh, own, self.frame_of(own), further, areas)
        return replace(self.compare_set(plan, progress), samples=samples)

    def detect_features(
        self,
        layers: Any,
        grid: tuple[int, int] | None = None,
        image_features: Any = None,
        *,
        progress: bool = False,
        patch_size: int = 1,
        review: Review | None = None,
    ) -> DetectionResult:
        """`detect` for patch tokens from anywhere, with a detector made by `CoDeGraph(backbone="precomputed")`.

        Args:
            layers: for each layer an array [n, p, c] or [n, h, w, c] of patch tokens, or the path of a .npy file with
                one; one such array or file; or the path of a .safetensors file with the tensors of all layers, in the
                order of their names. Files are mapped and read in batches. The tokens are normalised over each image.
            grid: (h, w) with h * w = p; not needed with [n, h, w, c].
            image_features: an array [n, d] or the path of a .npy file, by which similar images are found for the
                re-scoring; None: the tensor `image_features` of the .safetensors file, or no re-scoring.
            progress: see `detect`.
            patch_size: side in pixels of a patch in the anomaly maps, whose greatest values are the image scores.
            review: see `detect`.

        Raises:
            TokensError: a file cannot be read, or shapes do not fit together.
            TooFewImagesError: there are fewer than two images.
            NotFiniteError: a token is not finite.

        Examples:
            >>> import numpy as np
            >>> from codegraph_jax import CoDeGraph
            >>> tokens = np.random.default_rng(0).normal(size=(6, 4, 5, 16))  # images, rows, columns, channels
            >>> CoDeGraph(backbone="precomputed").detect_features(tokens).patch_scores.shape
            (6, 4, 5)
        """
        self._check(None, review, self.chosen_score)
        comparison = self.compare_features(layers, grid, image_features, progress=progress, patch_size=patch_size)
        return self.score(comparison, review=review)

    def compare_features(
        self,
        layers: Any,
        grid: tuple[int, int] | None = None,
        image_features: Any = None,
        *,
        progress: bool = False,
        patch_size: int = 1,
    ) -> Comparison:
        """The slow half of `detect_features`, with the same arguments and errors."""
        if not isinstance(self.backbone, PrecomputedBackbone):
            raise UserError(f'this detector has the backbone {self.backbone.name}; make one with "precomputed"')
        tokens = TokenSet(layers, grid, image_features)
        patches = tokens.grid[0] * tokens.grid[1]
        backbone = PrecomputedBackbone.of(patches, tokens.widths, patch_size, tokens.has_image_features)
        config, self.autotuning_note = autotune(self.config, tokens.grid, backbone.width)
        other = copy.copy(self)
        other._set_up(config, self.mesh, backbone)
        frame = Frame("squeeze", tokens.grid, patch_size)
        return other.compare_set(plan_set(config, backbone, self.mesh, tokens, frame), progress)

    def compare_set(
        self,
        plan: SetPlan,
        progress: bool = False,
        resume_store: ResumeStore | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> Comparison:
        """`compare` for a plan.

        Args:
            plan: result of `plan_set` with the settings, backbone and devices of this detector.
            progress: see `detect`.
            resume_store: store of features and distances from an earlier start of the run.
            log: called with the choice of what is compared, as a sentence, before the comparison.
        """
        config, clock = self.config, Clock()
        with errors_in_all_processes():
            plan.check(config.resources.check)
        with clock("backbone"):
            features = read_features(self._extractor_of(plan.frame), config.data, plan, resume_store, progress)
            if config.features.aggregation == "similarity":
                features = features.similarity_weighted(config.features.degrees)
                config = replace(config, features=replace(config.features, degrees=config.features.distance_degrees))
        count = features.set_size(len(plan.images))
        if count < 2:
            raise TooFewImagesError(
                f"{count} of {len(plan.images)} images can be read; at least two are needed, since each is scored "
                "against the others"
            )
        with clock("distances"):
            scope = choose_scope(features, config, self.backbone, plan.frame.grid, count)
            config = scope.applied_to(config)
            if scope.reason:
                left = estimate(config, self.backbone, len(features.kept), plan.frame, len(self.mesh)).distance_seconds
                log(f"{scope.reason}; distances {format_duration(left)}")
            comparison = compare_images(features, plan, config, self.mesh, resume_store, progress)
            product_ids = find_products(features, count)
        return replace(comparison, product_ids=product_ids, seconds=dict(clock.seconds))

    def _extractor_of(self, frame: Frame) -> Extractor:
        """The extractor for a frame.

        It is kept, so that the next set of this frame uses its copies of the weights and its batch size again.
        """
        self.extractor = self.extractor.with_frame(frame)
        return self.extractor

    def score(
        self,
        comparison: Comparison,
        recurring: RecurringConfig | None = None,
        bank: BankConfig | None = None,
        *,
        review: Review | None = None,
        category: str = "",
        link_finder: LinkFinder = burnout_links,
        score: str | Score | PatchScore | None = None,
    ) -> DetectionResult:
        """The fast half of `detect`: scores, recurring patterns, and filtered scores.

        Args:
            comparison: result of `compare`; it is not changed and can be used again with other settings.
            recurring: replaces `config.recurring`.
            bank: see `detect`.
            review: see `detect`.
            category: category whose threshold is used from a review with several.
            link_finder: finds the links of the search for recurring patterns.
            score: replaces the score of the detector.

        Raises:
            ConfigError, ReviewError: see `detect`.
        """
        search = recurring or self.config.recurring
        chosen_score = self.chosen_score if score is None else score_of(score)
        self._check(bank, review, chosen_score)
        config, features, clock = self.config, comparison.features, Clock(comparison.seconds)
        answers, patterns = Answers.of(review, category), review.patterns if review else ()
        found, exclusions = RecurringPatterns(), Exclusions.none(comparison.shape)
        if search.defects != "off":
            k = neighbour_count(len(comparison.references), config.scoring.fraction)
            with clock("recurring"):
                found, exclusions = find_recurring_patterns(comparison, k, search, patterns, link_finder)
        with clock("scoring"):
            patch_scores = patch_scores_by_name(comparison, config.scoring.fraction, exclusions, chosen_score)
            decisions = decide_photos(comparison, patch_scores, found, config.threshold, answers, chosen_score)
            scores_rescored = self._rescored(decisions, comparison, chosen_score)
        inputs = BankInputs(comparison, found, exclusions, decisions)
        made = make_bank(replace(config, bank=bank), self.backbone, inputs) if bank else None
        result = DetectionResult(
            kept=features.kept,
            unreadable=features.unreadable,
            patch_scores=decisions.patch_scores,
            scores=decisions.scores,
            scores_rescored=scores_rescored,
            p_values=decisions.p_values,
            flagged=decisions.flagged,
            calibration=decisions.calibration,
            placement=features.placement,
            weights_name=self.backbone.weights_name,
            feature_identity=self.feature_identity,
            seconds=dict(clock.seconds),
            recurring=found,
            added_count=comparison.added_count,
            from_cache_count=features.from_store_count if config.data.cache else 0,
            value_range=features.value_range,
            product_ids=comparison.product_ids,
            bank=made,
            keys=tuple(key.hex() for key in features.keys),
            score_name=decisions.score_name,
            scores_by_name=decisions.scores_by_name,
            answers=decisions.answers,
            reference_count=len(comparison.references),
            radius=comparison.options.radius or None,
        ).with_copies(features.copies, comparison.source_count)
        samples = tuple(comparison.samples[source] for source in result.kept) if comparison.samples else ()
        return replace(result, samples=samples)

    def _rescored(
        self, decisions: PhotoDecisions, comparison: Comparison, chosen_score: Score
    ) -> Float[np.ndarray, " n"]:
        """Image scores after the re-scoring of the score or of the settings, if there is one."""
        config, features = self.config.scoring, comparison.features
        if chosen_score.rescoring:
            return chosen_score.rescoring(decisions.scores, comparison, decisions.patch_scores)
        if features.discriminative if config.rescore is None else config.rescore:
            return rescore(decisions.scores, features.image_features, config.rescore_k, comparison.added_count)
        return decisions.scores

    def _check(self, bank: BankConfig | None, review: Review | None, chosen_score: Score) -> None:
        """Checks the arguments of `score` before the slow half."""
        if bank and isinstance(self.backbone, PrecomputedBackbone):
            raise UserError("a bank scores new photos and needs a backbone; this detector has precomputed features")
        if bank:
            check_bank(replace(self.config, bank=bank), chosen_score)
        if review is not None:
            review.check(self.feature_identity)

    @property
    def feature_identity(self) -> dict[str, Any]:
        """Weights and settings behind the features; a review is valid for equal ones."""
        identity, features = feature_identity(self.backbone, self.config.backbone), self.config.features
        if features.aggregation != "mean":
            identity |= {"aggregation": features.aggregation, "degrees": list(features.degrees)}
        return identity

    def product_ids(self, images: ImagesLike, *, progress: bool = False) -> Int[np.ndarray, " n"]:
        """The product of each image, from small copies: 0 for the most frequent one and for unreadable images.

        Sets of several products should be split, since every image of a rare product is anomalous among the others.
        Arguments as for `detect`.
        """
        self._require_network()
        return products_of(self.extractor, self.config.data, as_samples(images), progress)

    def frame_of(self, images: Sequence[Sample], log: Callable[[str], None] = lambda text: None) -> Frame:
        """The frame of a set; calls `log` with the choice of `config.backbone.fit=auto` as a sentence."""
        self._require_network()
        affordable = partial(is_affordable, self.config, self.backbone, len(images))
        return frame_for(self.config, self.backbone.patch_size, images, affordable, log)

    def _require_network(self) -> None:
        if isinstance(self.backbone, PrecomputedBackbone):
            raise UserError(
                "this detector has no network for photos: give tokens to detect_features, or name a backbone"
            )

    def on(self, device: jax.Device, memory: float) -> "CoDeGraph":
        """A copy of the detector that computes on one device, with `memory` bytes for arrays."""
        other = copy.copy(self)
        backbone = jax.device_put(self.backbone, device)
        config = replace(self.config, resources=replace(self.config.resources, memory_gib=memory / GIB))
        other._set_up(config, DeviceMesh((device,), self.mesh.backend), backbone)
        return other
