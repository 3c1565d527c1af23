"""The task `detect`: finds anomalies in each category of a data set and writes the results to the workdir."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax

from codegraph_jax.config import Config, MetricsConfig
from codegraph_jax.consistency.review import Review
from codegraph_jax.core.arrays import CPU_THREADS, GIB
from codegraph_jax.core.environment import usable_cores
from codegraph_jax.core.file_ownership import require_own
from codegraph_jax.core.names import printable
from codegraph_jax.core.progress import Clock, bar, note_estimate, progress_in
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import REVIEW, written_to
from codegraph_jax.data.roi import areas_with_data
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed import processes
from codegraph_jax.evaluation.evaluate import evaluate, size_text
from codegraph_jax.evaluation.metrics import mean_metrics
from codegraph_jax.features.set_plan import SetPlan
from codegraph_jax.report.archive import keep_earlier
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.result_files import RESULTS
from codegraph_jax.report.results import write_results
from codegraph_jax.report.tables import metrics_table
from codegraph_jax.report.terminal import photos_table, print_summary
from codegraph_jax.report.wording import mixed_products_note
from codegraph_jax.result import DetectionResult
from codegraph_jax.resume.partial_run import PartialRun
from codegraph_jax.resume.state import RunState
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.plan import plan_set
from codegraph_jax.similarity.time_estimate import TimeEstimate, estimate
from codegraph_jax.tasks.inputs import Inputs, read_inputs
from codegraph_jax.tasks.paths import require_writable
from codegraph_jax.tasks.scheduling import on_each_device, one_for_each_device, overlapped
from codegraph_jax.tasks.sets import drawn_files_of_run, print_excluded, warn_unreadable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CategoryRun:
    """The detection of one category in two halves, since one category is compared while another one is scored."""

    category: str
    plan: SetPlan
    time: TimeEstimate
    state: RunState | None
    review: Review | None

    def compare(self, detector: CoDeGraph, progress: bool = False) -> DetectionResult | Comparison:
        """The slow half; the result itself if an earlier start of the run has finished this category."""
        config, name = detector.config, printable(self.category)
        if processes.is_first():
            kept = self.plan.memory.stored_bytes / GIB if self.state and config.resume_data == "keep" else 0.0
            stored = f", {kept:.1f} GiB kept in the workdir" if kept >= 0.1 else ""
            print(f"{name}: {len(self.plan.images)} photos; {self.plan}{stored}, {self.time}", flush=True)
            note_estimate(network=self.time.feature_seconds or 0.0, distances=self.time.distance_seconds)
        if self.state and (finished := self.state.finished(self.category)):
            print(f"{name}: was finished before the interruption", flush=True)
            return finished
        partial_run = self.state.partial_run(self.category, self.plan.frame) if self.state else None
        log = partial(_print_about, self.category)
        comparison = detector.compare_set(self.plan, progress, partial_run, log)
        if partial_run:
            _print_reused(partial_run, len(comparison.features.kept), len(detector.backbone.blocks))
        return comparison

    def score(self, detector: CoDeGraph, compared: DetectionResult | Comparison) -> DetectionResult:
        """The fast half; saves the result for a later start of the run."""
        if isinstance(compared, DetectionResult):
            return compared
        bank = detector.config.bank if detector.config.bank.save else None
        result = detector.score(compared, bank=bank, review=self.review, category=self.category)
        if self.state:
            self.state.finish(self.category, result)
        return result

    def detect(self, detector: CoDeGraph, progress: bool = False) -> DetectionResult:
        """Both halves."""
        return self.score(detector, self.compare(detector, progress))


def run(config: Config, workdir: str) -> list[Outcome]:
    """Runs every category and writes the results; resumes an interrupted run in the same workdir.

    Raises:
        ConfigError, LayoutError, TooFewImagesError, UnreadableImageError: with no result written.
        WorkdirError: another run uses the workdir, or it cannot be written.
    """
    if config.parallel.by == "categories" and jax.process_count() > 1:
        raise ConfigError(
            "config.parallel.by: categories needs a single process; start a separate run on every host, with its "
            "own --config.data.categories and --out"
        )
    with _locked_and_writable(Path(workdir), config.bank.save):
        return _run_in(Path(workdir), config)


def _run_in(workdir: Path, config: Config) -> list[Outcome]:
    """Runs in a workdir that is locked."""
    clock = Clock()
    inputs = read_inputs(workdir, config, clock)
    config, detector = inputs.config, inputs.detector
    by_category = config.parallel.by == "categories" and len(inputs.categories) > 1
    detectors = one_for_each_device(detector, len(inputs.categories)) if by_category else [detector]
    with clock("data"), processes.errors_in_all_processes():
        plans, overlap = _plans(detectors[0], inputs, by_category)
        times = {
            category: estimate(detectors[0].config, detector.backbone, len(plan), plan.frame, len(detector.mesh))
            for category, plan in plans.items()
        }
        # check all categories before the first one, which may take hours
        for category, plan in plans.items():
            plan.check(config.resources.check)
            times[category].require(config)
    state = None
    if not by_category and jax.process_count() == 1 and config.resume_data != "off":
        state = RunState(workdir, config, detector.backbone, inputs.all_samples, inputs.review, inputs.roi)
    if config.resume_data == "keep" and not state and processes.is_first():
        logger.warning("config.resume_data: keep has no effect with several processes, or with one category per device")
    # review.json keeps the counts, which the next batch shows as those of the previous one
    review = inputs.review and inputs.review.for_photos(inputs.photos_digest(workdir))
    runs = [_CategoryRun(category, plan, times[category], state, review) for category, plan in plans.items()]
    outcomes = _outcomes(inputs, plans, _detect_in_order(runs, detectors, overlap), clock)
    if processes.is_first():
        _write(workdir, inputs, outcomes, clock)
        if state:
            state.remove()
        print_summary(workdir, config, outcomes, _closing_table(outcomes, config.metrics))
    processes.barrier("results written")
    return outcomes


def _outcomes(
    inputs: Inputs, plans: Mapping[str, SetPlan], results: Iterator[DetectionResult], clock: Clock
) -> list[Outcome]:
    """Measures each category while the next ones are detected."""
    config = inputs.config

    def measured(category: str, result: DetectionResult) -> Outcome:
        # labels of a result of an earlier start may be older than the settings
        kept = tuple(inputs.all_samples[category][i] for i in result.kept)
        result = replace(result, samples=kept)
        with clock("metrics"):
            metrics = evaluate(result, config.metrics)
        areas = [plans[category].areas[i] for i in result.kept]
        if result.value_range and not result.placement.everything_inspected:
            areas = areas_with_data(kept, result.value_range, areas, range(len(kept)))
        return Outcome(category, result, metrics, areas)

    # an accelerator detects faster than one thread measures
    with ThreadPoolExecutor(max(1, min(CPU_THREADS, usable_cores() // 4)), "metrics") as pool:
        waiting: list[Future[Outcome]] = []
        try:
            for (category, samples), result in zip(inputs.all_samples.items(), results):
                if processes.is_first():
                    _print_notes(category, result, config, inputs.review)
                warn_unreadable(category, len(samples), result.unreadable)
                clock.add(result.seconds)
                waiting.append(pool.submit(measured, category, result))
                for future in waiting:
                    # raise an error at once, not at the end of the run
                    if future.done():
                        future.result()
            return [future.result() for future in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write(workdir: Path, inputs: Inputs, outcomes: Sequence[Outcome], clock: Clock) -> None:
    """Writes the results, the reference bank and the review."""
    config, review = inputs.config, inputs.review
    with written_to(workdir):
        drawn = drawn_files_of_run(config.data, workdir)
        digest = inputs.photos_digest(workdir)
        if line := keep_earlier(workdir, digest, drawn):
            print(line)
        write_results(
            workdir, config, outcomes, clock, skipped=inputs.skipped, drawn=drawn, photos_digest=digest, review=review
        )
    if bank := outcomes[0].result.bank:
        replaced = Path(config.bank.save).exists()
        with written_to(config.bank.save):
            bank.save(config.bank.save)
        print(f"reference bank: {config.bank.save}{', which replaces an earlier one' if replaced else ''}")
    if review:
        kept = workdir / REVIEW
        _review_with_marks(outcomes, review).save(str(kept))
        print(f"your answers are saved; to apply them to the next batch: --review={kept}")


def _review_with_marks(outcomes: Sequence[Outcome], review: Review) -> Review:
    """The review, extended by the marks of the answered photos in these outcomes."""
    photos = dict(review.photos)
    for outcome in outcomes:
        photos |= {key: photo for key, photo in outcome.result.answers.photos.items() if photo.mark}
    return replace(review, photos=photos)


def _plans(detector: CoDeGraph, inputs: Inputs, by_category: bool) -> tuple[dict[str, SetPlan], bool]:
    """The plans of all categories, and whether the next one is compared while the current one is scored.

    Two categories are processed at once if a single accelerator compares and scores them and has memory for both.
    """
    config, mesh = detector.config, detector.mesh
    largest = max(map(len, inputs.all_samples.values()))
    frames = {
        category: detector.frame_of(samples, partial(_print_about, category))
        for category, samples in inputs.categories.items()
    }

    def planned(sets: int) -> dict[str, SetPlan]:
        plans = {}
        for category, samples in inputs.categories.items():
            added, names = inputs.added[category], [sample.name for sample in inputs.all_samples[category]]
            areas = inputs.roi.areas_of(names) if inputs.roi else []
            plans[category] = plan_set(
                config, detector.backbone, mesh, samples, frames[category], added, areas, largest=largest, sets=sets
            )
        return plans

    accelerated = config.resources.distances_on != "host" and _accelerated(detector)
    if not by_category and len(frames) > 1 and accelerated:
        two = planned(sets=2)
        if all(plan.device_plan for plan in two.values()):
            return two, True
    return planned(sets=1), False


@contextmanager
def _locked_and_writable(workdir: Path, bank: str) -> Iterator[None]:
    """Locks the workdir in the first process, and checks that the results can be written before the work starts."""
    with processes.errors_in_all_processes():
        if processes.is_first() and bank:
            require_writable("config.bank.save", bank)
    with processes.locked_workdir(workdir):
        with processes.errors_in_all_processes():
            if processes.is_first():
                require_own(workdir, RESULTS)
        with progress_in(workdir) if processes.is_first() else nullcontext():
            yield


def _accelerated(detector: CoDeGraph) -> bool:
    return detector.mesh.devices[0].platform != "cpu"


def _print_about(category: str, text: str) -> None:
    if processes.is_first():
        print(f"{printable(category)}: {text}", flush=True)


def _print_reused(partial_run: PartialRun, image_count: int, layer_count: int) -> None:
    images, tables = partial_run.loaded_image_count, partial_run.loaded_layer_count
    if images or tables:
        print(
            f"reused from the workdir: features of {images} of {image_count} photos, distances of "
            f"{tables} of {layer_count} layers",
            flush=True,
        )


def _detect_in_order(
    runs: Sequence[_CategoryRun], detectors: Sequence[CoDeGraph], overlap: bool
) -> Iterator[DetectionResult]:
    """Computes a category each time that it is advanced; with several detectors all of them the first time.

    Args:
        runs: the categories, in the order of the results.
        detectors: one for all categories, or one for each device.
        overlap: with one detector, whether the next category is compared while the current one is scored.
    """
    first = processes.is_first()
    if len(detectors) > 1:
        # one bar for all categories: bars of several threads would overwrite each other
        with bar(len(runs), "categories", "category", first) as advance:
            results = on_each_device(detectors, lambda detector, run: run.detect(detector), runs, advance)
        yield from results
        return
    (detector,) = detectors
    if overlap:
        yield from overlapped(
            lambda run: run.compare(detector, first), lambda run, compared: run.score(detector, compared), runs
        )
    else:
        for run in runs:
            yield run.detect(detector, first)


def _print_notes(category: str, result: DetectionResult, config: Config, review: Review | None) -> None:
    """Prints how the photos of a category were read, and which answers of the review apply."""
    if config.data.cache:
        print(f"features: {result.from_cache_count} of {len(result.kept)} from the cache", flush=True)
    if result.value_range:
        how = f"{result.value_range} (--config.data.range=BLACK,WHITE sets another range)"
        print(f"{printable(category)}: 16-bit, 32-bit or float pixels: {how}", flush=True)
    if config.data.roi:
        print_excluded(category, config.data.roi, result.placement)
    if line := mixed_products_note(category, result):
        print(line, flush=True)
    here = sum(photo.key in result.keys for photo in review.photos.values()) if review else 0
    if review and review.photos:
        print(
            f"{printable(category)}: {here} of the {len(review.photos)} photos with an answer are in this set",
            flush=True,
        )
        if not here and not any(photo.mark for photo in review.photos.values()):
            print(
                f"{config.review}: has no effect here: none of its photos is in this set, and it holds no marks yet; "
                "use it once with the photos that it was made for, then use the review.json which that run writes",
                flush=True,
            )
    if review and review.patterns and not result.recurring.matches:
        print(f"{config.review}: none of its patterns belongs to the product in {printable(category)}", flush=True)


def _closing_table(outcomes: Sequence[Outcome], config: MetricsConfig) -> str:
    """A table of the metrics, or of the photos with the highest scores if there are no labels."""
    if any(value is not None for outcome in outcomes for value in outcome.metrics.values()):
        metrics = {outcome.category: outcome.metrics for outcome in outcomes}
        heading = f"percent; pixels at {size_text(config)}\n"
        return heading + metrics_table(metrics, mean_metrics(list(metrics.values())))
    return photos_table(outcomes)
