"""The method, top to bottom: images in, anomaly scores and maps out.

Zero-shot anomaly detection on a set of unlabelled images of one product. Mutual scoring reproduces MuSc
(arXiv:2401.16753); the consistency stages follow CoDeGraph (arXiv:2510.10456), and docs/method.md says which of their
rules are the paper's and which are this project's.
"""

import dataclasses
import logging
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
from jaxtyping import Int

from codegraph_jax.backbones import Backbone, features_identity, load_backbone
from codegraph_jax.backbones.presets import with_preset
from codegraph_jax.bank.making import Lesson, make_bank
from codegraph_jax.config import Config, ConsistencyConfig, DataConfig
from codegraph_jax.consistency.community import Consistency
from codegraph_jax.consistency.decision import Answers, decide_photos
from codegraph_jax.consistency.filtered import Filter, variant_scores
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.consistency.products import find_products
from codegraph_jax.consistency.review import Review
from codegraph_jax.consistency.stages import find_consistent
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.progress import Clock, bar
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.batches import decoding_threads
from codegraph_jax.data.contents import require_contents
from codegraph_jax.data.frame import Frame, choose_frame
from codegraph_jax.data.given import checked_images
from codegraph_jax.data.images import Source, allow_megapixels, size_of
from codegraph_jax.data.measuring import summaries
from codegraph_jax.data.roi import Inspected, Roi, shared_roi, where_data
from codegraph_jax.data.value_range import Summary, ValueRange, given_range, range_of
from codegraph_jax.distributed.devices import DeviceMesh, device_mesh
from codegraph_jax.distributed.processes import gather, share, together
from codegraph_jax.features.buffer import FeatureBuffer
from codegraph_jax.features.cache import FeatureCache
from codegraph_jax.features.extraction import Extractor, Features
from codegraph_jax.features.memory import MemoryPlan, feature_type, plan_run
from codegraph_jax.features.stores import FeatureStore
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.maps import image_scores
from codegraph_jax.scoring.mutual import neighbour_count
from codegraph_jax.scoring.panel import Panel, panel_scores
from codegraph_jax.scoring.rescoring import rescore
from codegraph_jax.similarity.choosing import choose
from codegraph_jax.similarity.comparison import Comparison, StoredLayers, TableStore
from codegraph_jax.similarity.effort import is_affordable
from codegraph_jax.similarity.pairwise import choose_references, schedule_length, tile_options
from codegraph_jax.similarity.residency import check_host, plan_device
from codegraph_jax.similarity.tables import tables_of

T = TypeVar("T")

LOOK = 8
"""Patches along the side of the small copies by which products are told apart."""

logger = logging.getLogger(__name__)


class TooFewImages(UserError):
    """A set needs two images at least: each is judged by the others."""


class EarlierStart(FeatureStore, TableStore, Protocol):
    """What an earlier start of the same run has computed, and where this one keeps what it computes."""


class CoDeGraph:
    """Finds the anomalous images of a set, and where.

    Args:
        config: settings of the run, or the name of a backbone.
        backbone: shorthand for `config.backbone.name`.
        **backbone_fields: the same for other fields of `config.backbone`, such as `image_size` and `weights`.

    Examples:
        >>> from codegraph_jax import CoDeGraph
        >>> from codegraph_jax.data.synthetic import draw_set
        >>> photographs = list(draw_set(6, 64, 0, 0.2, ()).images)  # or the paths of files
        >>> detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=56, blocks=(1, 3))
        >>> result = detector.detect(photographs)
        >>> result.scores.shape, result.maps().shape
        ((6,), (6, 56, 56))

    Attributes:
        choice: in words which kernel and precision `auto` has become by a timing; empty where nothing was timed.

    See Also:
        ReferenceBank: judges single new images by what a set has taught.
    """

    def __init__(self, config: Config | str | None = None, *, backbone: str | None = None, **backbone_fields: Any):
        if isinstance(config, str):
            backbone = backbone or config
        elif config is not None and not isinstance(config, Config):
            raise ConfigError(
                f"CoDeGraph: takes a Config or the name of a backbone, as CoDeGraph('dinov2-base'); got {config!r}"
            )
        # whoever gives images and no settings matches scores with images by their places
        settings = config if isinstance(config, Config) else Config(data=DataConfig(unreadable="error"))
        if backbone:
            backbone_fields["name"] = backbone
        try:
            settings = dataclasses.replace(settings, backbone=dataclasses.replace(settings.backbone, **backbone_fields))
        except TypeError as error:
            raise ConfigError(f"config.backbone: {error}") from None
        settings = with_preset(settings)
        # before the hub is asked for weights
        _check(settings)
        mesh, loaded = device_mesh(settings.parallel), load_backbone(settings.backbone)
        cells = settings.backbone.image_size // loaded.preset.patch_size
        similarity, self.choice = choose(
            settings.similarity, settings.features.degrees, (cells, cells), loaded.preset.width
        )
        self._set_up(dataclasses.replace(settings, similarity=similarity), mesh, loaded)

    def detect(
        self,
        images: Sequence[Source],
        progress: bool = False,
        added: Sequence[Source] = (),
        bank_references: int = 0,
        *,
        review: Review | None = None,
        roi: str | np.ndarray | None = None,
        bank: int | None = None,
    ) -> DetectionResult:
        """Scores every image against the others.

        Args:
            images: of one product, at least two: files, uint8 arrays ([h, w], [h, w, 3]) or Pillow images; one array
                [n, h, w, 3] or [n, h, w]; or a directory, whose photos are taken in natural order.
            progress: show bars on standard error.
            added: further images, which are judged by `images` and change nothing of them; they come last in the
                result.
            bank_references: how many of the references to keep as `result.bank`, which scores single new images; 0:
                none.
            review: verdicts of a person on what recurs, see `DetectionResult.review`.
            roi: what of the photographs is inspected: an array [h, w], stretched over each, 0 where they are not; or
                a place that `config.data.roi` may name. None: everything.
            bank: former name of `bank_references`.

        Raises:
            ReviewError: `review` is of other features.
            TooFewImages: fewer than two can be read.
            NothingToCompare: the photos of files are blank or all the same.
            UserError: `images` is a single image or no images at all.
            UnreadableImage: an array has another type or shape; or a file cannot be decoded and
                `config.data.unreadable` is `error`, as it is where no `config` was given. With `skip`, `result.kept`
                says which images the scores are of.
        """
        bank_references = _renamed("bank", bank, "bank_references", bank_references)
        if review:
            review.check(self.features)
        comparison = self.compare(images, progress, added, roi)
        return self.judge(comparison, bank_references=bank_references, review=review)

    def compare(
        self,
        images: Sequence[Source],
        progress: bool = False,
        added: Sequence[Source] = (),
        roi: str | np.ndarray | None = None,
    ) -> Comparison:
        """The slow half of `detect`: features of every image, and the distance of every patch to every reference image.

        Arguments and errors as for `detect`.
        """
        images, added = checked_images(images), checked_images(added, "added")
        inspected: Sequence[Inspected] = ()
        if roi is not None:
            inspected = Roi.of(roi).each([str(source) for source in (*images, *added)])
        return self._compare(images, progress, added, inspected)

    def judge(
        self,
        comparison: Comparison,
        consistency: ConsistencyConfig | None = None,
        bank_references: int = 0,
        *,
        review: Review | None = None,
        category: str = "",
        bank: int | None = None,
        consistent: ConsistencyConfig | None = None,
    ) -> DetectionResult:
        """The quick half of `detect`: scores, what recurs, and the scores without it.

        Args:
            comparison: of `compare`; nothing of it is changed, so that it can be judged again with other settings.
            consistency: takes the place of `config.consistency`.
            bank_references: see `detect`.
            review: verdicts of a person on groups and photos, such as `DetectionResult.review` of the same comparison
                gives.
            category: whose threshold of the review counts, where it has several.
            bank: former name of `bank_references`.
            consistent: former name of `consistency`.

        Raises:
            ReviewError: `review` is of other features.
        """
        bank_references = _renamed("bank", bank, "bank_references", bank_references)
        consistency = _renamed("consistent", consistent, "consistency", consistency) or self.config.consistency
        if bank_references:
            _check_bank(self.config, bank_references)
        if review:
            review.check(self.features)
        patterns, answers = (review.patterns if review else ()), Answers.of(review, category)
        return self._judge(comparison, consistency, bank_references, patterns, answers)

    def _judge(
        self,
        comparison: Comparison,
        consistency: ConsistencyConfig,
        bank_references: int,
        patterns: Sequence[Pattern],
        answers: Answers,
    ) -> DetectionResult:
        """`judge`, its arguments checked."""
        config, features, own, clock = self.config, comparison.features, comparison.own, Clock(comparison.seconds)
        everybody = Panel.of(comparison, config.scoring.fraction)

        with clock("scoring"):
            layer_scores = panel_scores(comparison, everybody)
        recurring, taken_out = Consistency(), Filter.nothing(comparison)
        if consistency.enabled:
            with clock("consistency"):
                recurring, taken_out = find_consistent(comparison, everybody.k, consistency, patterns)
        with clock("scoring"):
            placement, grid = features.placement, comparison.options.grid
            filtered = taken_out if consistency.enabled else None
            found = variant_scores(comparison, config.scoring.fraction, layer_scores, filtered)
            maps = {name: scores.reshape(-1, *grid) for name, scores in found.items()}
            size, contents = placement.frame.size, placement.contents()
            images = {name: image_scores(scores, size, contents) for name, scores in maps.items()}
            decided = decide_photos(maps, images, own, recurring, config.threshold, answers, features, placement)
            scores = decided.scores
            if config.scoring.rescore == "on":
                scores = rescore(scores, features.image_features, config.scoring.rescore_k, comparison.added)
        result = DetectionResult(
            kept=features.kept,
            skipped=features.skipped,
            patch_scores=decided.patch_scores,
            scores_raw=decided.scores,
            scores=scores,
            calibration=decided.calibration,
            placement=placement,
            weights=self.backbone.weights,
            features=self.features,
            seconds=dict(clock.seconds),
            consistency=recurring,
            added=comparison.added,
            from_cache=features.found if config.data.cache else 0,
            value_range=features.value_range,
            products=comparison.products,
            keys=tuple(key.hex() for key in features.keys),
            variant=decided.variant,
            variant_scores=images,
            answers=decided.answers,
        )
        if bank_references:
            lesson = Lesson(comparison, recurring, taken_out, consistency, decided)
            made = make_bank(config, self.backbone, lesson, bank_references)
            result = dataclasses.replace(result, bank=made)
        return result.with_copies(features.copies, comparison.listed)

    def products(self, images: Sequence[Source], progress: bool = False) -> Int[np.ndarray, " n"]:
        """Which product each image shows, from a first look at small copies: 0 for the most frequent one.

        A set of several products is better judged in parts, since every image of the rarer one is anomalous among the
        others. Images that cannot be read get 0.

        Args:
            images: as for `detect`.
            progress: show a bar on standard error.
        """
        images = checked_images(images)
        patch = self.backbone.preset.patch_size
        look = dataclasses.replace(self.extractor, frame=Frame.squeezed(LOOK * patch, patch))
        with bar(len(images), "first look", "image", progress) as advance:
            features = look.extract(images, progress=advance, value_range=self.range_of(images))
        found = np.zeros(len(images), int)
        if len(features.kept):
            found[features.kept] = find_products(features, (LOOK, LOOK), len(features.kept))
        return found

    def frame_of(self, images: Sequence[Source], say: Callable[[str], None] = lambda text: None) -> Frame:
        """How photographs of a set become grids of patches, by the settings and the sizes of the images of the set.

        Args:
            images: as for `detect`; those of `added` count for nothing.
            say: told what `config.backbone.fit=auto` has chosen, and why.
        """
        settings, patch = self.config.backbone, self.backbone.preset.patch_size
        if settings.fit == "squeeze":
            return self.extractor.frame
        mine = images[share(len(images))]
        with ThreadPoolExecutor(decoding_threads(self.config.data.workers)) as pool:
            known = [size for part in gather(list(pool.map(size_of, mine))) for size in part if size]
        sizes = [(width, height) for width, height in known]
        how = settings.image_size, patch, settings.scale, settings.overlap
        if settings.fit != "auto":
            return Frame.of(settings.fit, sizes, *how)
        frame, reason = choose_frame(
            sizes, *how, lambda frame: is_affordable(self.config, self.backbone, len(images), frame)
        )
        say(f"{frame}, since {reason}")
        return frame

    @property
    def features(self) -> dict[str, Any]:
        """What the features depend on; a review holds for equal ones."""
        return features_identity(self.backbone, self.config.backbone)

    def on(self, device: jax.Device, memory: float) -> "CoDeGraph":
        """The same detector with its parameters on one device, all of its work there, and `memory` bytes for arrays."""
        other = object.__new__(CoDeGraph)
        other.choice = self.choice
        storage = dataclasses.replace(self.config.storage, memory_gib=memory / GIB)
        backbone = dataclasses.replace(self.backbone, params=jax.device_put(self.backbone.params, device))
        config = dataclasses.replace(self.config, storage=storage)
        other._set_up(config, DeviceMesh((device,), self.mesh.backend), backbone)
        return other

    def _extractor_of(self, frame: Frame) -> Extractor:
        """Kept, since it holds a compiled program."""
        if frame != self.extractor.frame:
            self.extractor: Extractor = dataclasses.replace(self.extractor, frame=frame)
        return self.extractor

    def _set_up(self, config: Config, mesh: DeviceMesh, backbone: Backbone) -> None:
        allow_megapixels(config.data.max_megapixels)
        given_range(config.data.range)
        self.config, self.mesh, self.backbone = config, mesh, backbone
        self.extractor = Extractor(
            backbone,
            mesh,
            Frame.squeezed(config.backbone.image_size, backbone.preset.patch_size),
            config.backbone.batch_size,
            config.data.workers,
            config.data.unreadable,
            feature_type(config.features.dtype, config.similarity.precision),
        )

    def _compare(
        self,
        images: Sequence[Source],
        progress: bool = False,
        added: Sequence[Source] = (),
        inspected: Sequence[Inspected] = (),
        earlier: EarlierStart | None = None,
        frame: Frame | None = None,
        plan: MemoryPlan | None = None,
        sets: int = 1,
        largest: int = 0,
    ) -> Comparison:
        """`compare`, with what only a task has.

        Args:
            images, progress, added: see `detect`.
            inspected: what of the photographs is, those of `added` last; empty: all.
            earlier: what need not be computed again; None: nothing is known, and nothing is kept.
            frame: of `frame_of` the images; None: made here.
            plan: of `plan_run` for all of these images; None: made here.
            sets, largest: comparisons that are on the device at once, and images of the largest, see `plan_device`.
        """
        clock = Clock()
        frame = frame or self.frame_of(images)
        plan = plan or plan_run(self.config, self.backbone, len(images) + len(added), frame)
        sources = [*images, *added]
        blocks = len(self.backbone.blocks)
        on_device = plan_device(self.config, plan, self.mesh, len(sources), blocks, sets, largest)
        with together():
            check_host(plan, on_device, self.config.storage.check)
        with clock("backbone"):
            value_range, incomplete = self._measured(images, added)
            rows = on_device.rows if on_device else 0
            read = partial(self._features, sources, frame, progress, earlier, plan, value_range, rows)
            features = read()
            with together():
                require_contents(
                    images, features.kept, features.copies, features.grey_levels, bool(self.config.data.range)
                )
            if features.copies and int((features.kept < len(images)).sum()) < 2:
                # a set of one image many times: they have nobody to judge them but each other
                features = read(once=False)
            if inspected or incomplete:
                with together():
                    features = features.where_inspected(
                        where_data(sources, value_range, inspected, incomplete), sources
                    )
        own = int((features.kept < len(images)).sum())
        if own < 2:
            raise TooFewImages(
                f"{own} of {len(images)} images can be read; each is judged by the others, so two are needed"
            )
        masked = features.placement.judged is not None
        options = tile_options(self.config.similarity, self.config.features.degrees, frame.grid, masked)
        references = choose_references(features.keys[:own], self.config.similarity.references)
        with clock("distances"):
            store = StoredLayers(earlier, features.keys, references, plan.allocate_tables) if earlier else None
            pairs = schedule_length(len(features.kept), len(references)) * len(features.layers)
            with bar(pairs, "distances", "pair", progress) as advance:
                tables = tables_of(
                    features,
                    references,
                    options,
                    mesh=self.mesh,
                    plan=plan,
                    on_device=on_device,
                    k=neighbour_count(len(references), self.config.scoring.fraction),
                    check=self.config.storage.check,
                    store=store,
                    progress=advance,
                )
            products = find_products(features, options.grid, own)
        return Comparison(
            features,
            tables,
            references,
            options,
            dict(clock.seconds),
            added=len(features.kept) - own,
            listed=len(images),
            products=products,
            roi=shared_roi(inspected, features.placement),
        )

    def range_of(self, images: Sequence[Source]) -> ValueRange | None:
        """How samples of 16 bits, 32 bits or floats are shown; None where the set has none.

        Args:
            images: as for `detect`; those of `added` count for nothing.
        """
        return self._measured(images)[0]

    def _measured(
        self, images: Sequence[Source], added: Sequence[Source] = ()
    ) -> tuple[ValueRange | None, frozenset[int]]:
        """The value range of the set, which added images do not change, and which of all images lack data in places."""
        sources = [*images, *added]
        mine = share(len(sources))
        with together():
            own = summaries(sources[mine], decoding_threads(self.config.data.workers))
        parts = gather([[i + mine.start, *dataclasses.astuple(summary)] for i, summary in own.items()])
        found = {i: Summary(*values) for part in parts for i, *values in part}
        measured = range_of([summary for i, summary in found.items() if i < len(images)])
        if not measured:
            return None, frozenset()
        if given := given_range(self.config.data.range):
            given = dataclasses.replace(given, no_data=given.no_data or measured.no_data)
            measured = dataclasses.replace(given, seen=measured.seen, gaps=measured.gaps)
        return measured, frozenset(i for i, summary in found.items() if summary.lacks_data(measured))

    def _features(
        self,
        sources: Sequence[Source],
        frame: Frame,
        progress: bool,
        earlier: EarlierStart | None,
        plan: MemoryPlan,
        value_range: ValueRange | None,
        rows: int,
        once: bool = True,
    ) -> Features:
        """Features of all images, equal ones once, of which the cache or an earlier start may have some.

        They stay on the device where distances do, in arrays of so many rows, unless they wait for each other in a
        buffer; 0: distances go to the host.
        """
        cache: FeatureCache | None = None
        extractor = self._extractor_of(frame)
        with together():
            if directory := self.config.data.cache:
                cache = FeatureCache(directory, self.backbone, frame, extractor.dtype)
        stores = [store for store in (cache, earlier) if store is not None]
        buffer = None
        if cache or plan.features_on_disk:
            # what the cache holds comes before what is computed, so that images must find their places
            buffer = FeatureBuffer(plan.allocate_features, len(sources))
        with bar(len(sources), "backbone", "image", progress) as advance:
            features = extractor.extract(sources, stores, buffer, advance, once, value_range, 0 if buffer else rows)
        if cache:
            cache.warn_of_damage()
        return features


def _check(config: Config) -> None:
    """Refuses settings that do not go together."""
    require_several("similarity.references", config.similarity.references)
    if config.bank.save:
        _check_bank(config, config.bank.references)


def _check_bank(config: Config, references: int) -> None:
    """Refuses settings of which no bank can be made."""
    require_several("bank.references", references)
    if config.similarity.radius and config.bank.kind == "compact":
        raise ConfigError(
            "config.bank.kind: a compact bank does not know where its patches lay, so that config.similarity.radius "
            "has no meaning for it; leave the radius out, or save an exact bank with --config.bank.kind=exact"
        )


def require_several(what: str, references: int) -> None:
    """Refuses a single reference: the image that it is would be judged by nobody."""
    if references == 1:
        raise ConfigError(f"config.{what}: one reference cannot judge itself; give two or more")


def _renamed(old: str, value: T | None, new: str, given: T) -> T:
    """What an argument was given by its former name, with a warning, or else by its own."""
    if value is None:
        return given
    warnings.warn(f"the argument {old} is now called {new}", DeprecationWarning, stacklevel=3)
    return value
