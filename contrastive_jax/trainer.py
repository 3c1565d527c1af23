"""A training run: reads the data, trains with checkpoints, and tests the network (OECL, arXiv:2312.15288)."""

import logging
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from codegraph_jax.core.arrays import evenly
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import note_written
from codegraph_jax.core.files import finite_or_none, read_json, write_json
from codegraph_jax.core.workdir import WorkdirError
from codegraph_jax.distributed import processes
from contrastive_jax.config import OeclConfig, with_value_range
from contrastive_jax.data.feeding import Feeder
from contrastive_jax.data.image_set import Images
from contrastive_jax.data.protocols import EvaluationSet
from contrastive_jax.data.sources import RunData, image_counts, read_run_data
from contrastive_jax.evaluation.evaluate import auroc, build_scorer, evaluation_metrics
from contrastive_jax.network.resnet import build_network
from contrastive_jax.objectives import OBJECTIVES
from contrastive_jax.report.figures import GROUPS, save_histogram, save_learning_curves
from contrastive_jax.report.manifest import require_same_run, run_identity, versions_and_device
from contrastive_jax.report.metrics_log import EpochPrinter, MetricsLog, hours_minutes_seconds, read_log
from contrastive_jax.report.result_files import CURVES, LOG, MANIFEST, NORMS, PICTURES, RESULTS, SCORES_CSV
from contrastive_jax.report.results import print_results, write_test_scores
from contrastive_jax.training.checkpoints import Checkpoints
from contrastive_jax.training.mesh import BATCH_AXIS, put_on_mesh, run_mesh
from contrastive_jax.training.state import TrainState, build_optimizer, initial_state
from contrastive_jax.training.step import build_train_call

logger = logging.getLogger(__name__)

SCORED_OE_IMAGES = 2000
"""Number of OE images that are scored for the figures."""
MANIFEST_SECONDS = 60
"""Longest wait for the manifest of process 0 on a network disk."""


class TrainingDivergedError(UserError):
    """A loss or parameter is not finite; the message names the step and the last good checkpoint."""


def train(config: OeclConfig, workdir: str | Path) -> dict[str, Any]:
    """Trains and tests a network, or resumes an interrupted run; returns the contents of results.json.

    Args:
        config: settings of the run.
        workdir: receives manifest.json, metrics.jsonl, events for TensorBoard, checkpoints/, results.json, scores.csv,
            norms.png and learning_curve.png. Several processes share it: all read the checkpoints, process 0 writes
            the rest.

    Raises:
        ConfigError, LayoutError, ProtocolError, WorkdirError, CheckpointError: the input is invalid.
        UserError: the processes have different settings or images.
        TrainingDivergedError: a loss or parameter became infinite or NaN.
    """
    workdir = Path(workdir)
    with processes.errors_in_all_processes():
        data = read_run_data(config)
    if data.value_range:
        config = with_value_range(config, data.value_range)
        if processes.is_first():
            print(f"{config.data.train}: 16-bit, 32-bit or float pixels: {data.value_range}", flush=True)
    try:
        with processes.locked_workdir(workdir):
            results = _run_in(workdir, config, data)
            # no process ends before process 0 has written everything
            processes.barrier("the results are written")
            return results
    except OSError as error:
        raise WorkdirError(
            f"{workdir}: reading or writing failed ({error}); fix this and start again with the same --out: the "
            "run resumes from its newest checkpoint"
        ) from error


def _run_in(workdir: Path, config: OeclConfig, data: RunData) -> dict[str, Any]:
    """Trains and tests in a locked workdir."""
    started = time.monotonic()
    identity = run_identity(config, data.normal, data.oe, None if data.test is None else data.test.images)
    settings_by_flag = {f"config.{name}": value for name, value in identity["config"].items()}
    processes.require_equal(settings_by_flag | {"the images": identity["data"]})
    manifest = finite_or_none(
        {**identity, "seed": config.seed, "image_counts": image_counts(data), **versions_and_device()}
    )
    finished: dict[str, Any] | None = None
    with processes.errors_in_all_processes():
        if processes.is_first():
            finished = _start_or_finished(workdir, identity, manifest)
    finished = processes.gather(finished)[0]
    with processes.errors_in_all_processes():
        _wait_for_manifest(workdir)
    if finished is not None:
        return finished

    tester = None if data.test is None else Tester(config, data.test, data.oe)
    state, training = train_network(config, data, workdir, tester)
    if processes.is_first():
        save_learning_curves(workdir / CURVES, read_log(workdir / LOG))
    results = {**(tester.final_results(state, workdir) if tester else {}), **training}
    if processes.is_first():
        # results.json is written last: it marks a finished run
        write_json(workdir / MANIFEST, {**manifest, "seconds": round(time.monotonic() - started, 1)})
        write_json(workdir / RESULTS, finite_or_none(results))
        print_results(results)
        print(f"\n{hours_minutes_seconds(time.monotonic() - started)} in all; results in {workdir}", flush=True)
    return results


def _start_or_finished(workdir: Path, identity: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Writes the manifest; returns the results if the run is finished already.

    Raises:
        WorkdirError: the workdir holds another run.
    """
    require_same_run(workdir, identity)
    if (workdir / RESULTS).exists():
        results: dict[str, Any] = read_json(workdir / RESULTS)
        print(f"{workdir}: this run is finished; its results:", flush=True)
        print_results(results)
        return results
    write_json(workdir / MANIFEST, manifest)
    note_written(workdir, PICTURES)
    return None


def _wait_for_manifest(workdir: Path) -> None:
    """Waits until this process can read the manifest that process 0 has written into the workdir.

    Raises:
        WorkdirError: the manifest is not visible after `MANIFEST_SECONDS`.
    """
    deadline = time.monotonic() + MANIFEST_SECONDS
    while not (workdir / MANIFEST).exists():
        if time.monotonic() > deadline:
            raise WorkdirError(
                f"{workdir}: does not hold what process 0 has written there; all processes need the same --out, on "
                "a shared disk"
            )
        time.sleep(1)


class Tester:
    """Tests a network during and after training."""

    def __init__(self, config: OeclConfig, test: EvaluationSet, oe: Images | None):
        """Keeps an evenly spaced sample of the OE images, since a set may be ordered by class."""
        self._config, self._test, self._oe = config, test, oe
        if oe is not None:
            self._oe = oe[evenly(len(oe), SCORED_OE_IMAGES)]
        self._mesh, self._network = run_mesh(), build_network(config.model, config.train.objective, BATCH_AXIS)
        self._clean_scorer = build_scorer(self._network, config, self._mesh, views=0)

    def clean_view_metrics(self, state: TrainState) -> dict[str, float | None]:
        """AUROC of the clean view, and its mean score over normal, OE and unseen images."""
        scores = self._clean_scorer(state.variables, self._test.images)["clean"]
        means = _means(self._by_group(scores, state))
        return {"auroc": auroc(self._test.is_normal, scores)} | {f"clean_{name}": mean for name, mean in means.items()}

    def final_results(self, state: TrainState, workdir: Path) -> dict[str, Any]:
        """Scores the test set over all views, writes scores and figure, and returns metrics and mean norms."""
        views, scorer = self._config.evaluation.views, self._clean_scorer
        if views:
            scorer = build_scorer(self._network, self._config, self._mesh, views)
        scores = scorer(state.variables, self._test.images)
        if not all(np.isfinite(values).all() for values in scores.values()):
            raise TrainingDivergedError(f"{workdir}: the scores of test images are not finite")
        groups = self._by_group(scores["clean"], state)
        if processes.is_first():
            write_test_scores(workdir / SCORES_CSV, self._test, scores)
            save_histogram(workdir / NORMS, groups, OBJECTIVES[self._config.train.objective].label)
        return {**evaluation_metrics(self._test, scores), "clean_score_means": _means(groups)}

    def _by_group(self, scores: Float[np.ndarray, " n"], state: TrainState) -> dict[str, Float[np.ndarray, " k"]]:
        """Clean-view scores of the normal test images, of OE images, and of the unseen anomalies."""
        groups = {"normal": scores[self._test.is_normal]}
        if self._oe is not None:
            groups["oe"] = self._clean_scorer(state.variables, self._oe)["clean"]
        return groups | {"unseen": scores[~self._test.is_normal]}


def _means(groups: dict[str, Float[np.ndarray, " k"]]) -> dict[str, float | None]:
    return {name: float(groups[name].mean()) if name in groups else None for name in GROUPS}


def train_network(
    config: OeclConfig, data: RunData, workdir: Path, tester: Tester | None = None, progress: bool = True
) -> tuple[TrainState, dict[str, Any]]:
    """Runs the remaining epochs; returns the last state and the speed.

    Resumes from the newest checkpoint in the workdir; writes checkpoints and metrics.jsonl.

    Raises:
        TrainingDivergedError: a loss or parameter became infinite or NaN.
    """
    with closing(Checkpoints(workdir)) as checkpoints:
        return _remaining_epochs(config, data, checkpoints, workdir, tester, progress and processes.is_first())


def _remaining_epochs(
    config: OeclConfig,
    data: RunData,
    checkpoints: Checkpoints,
    workdir: Path,
    tester: Tester | None,
    progress: bool,
) -> tuple[TrainState, dict[str, Any]]:
    mesh, network = run_mesh(), build_network(config.model, config.train.objective, BATCH_AXIS)
    feeder = Feeder(config, data.normal, data.oe, mesh)
    epochs, steps = config.train.epochs, feeder.steps_per_epoch
    optimizer = build_optimizer(config.train, epochs * steps)
    state = initial_state(network, optimizer, config.data.image_size, config.seed)
    state = put_on_mesh(state, mesh)
    resumed = checkpoints.restore(state)
    state = state if resumed is None else resumed
    processes.require_equal({"the checkpoint from which it resumes": int(state.step)})
    finished = int(state.step) // steps
    if finished and progress:
        print(f"resuming after epoch {finished} of {epochs}", flush=True)

    run_steps = build_train_call(config, network, optimizer, epochs * steps, mesh, feeder.on_device)
    test_every = config.evaluation.test_every
    checkpoint_every = config.train.checkpoint_every or math.ceil(epochs / 20)
    log = MetricsLog(workdir / LOG if processes.is_first() else None, finished)
    printer = EpochPrinter(epochs, finished, progress)
    images_per_epoch, seconds, seed = steps * config.train.batch_size, [], np.uint32(config.seed)
    try:
        if tester and test_every and not finished:
            untrained = tester.clean_view_metrics(state)
            log.add("test", 0, 0, untrained)
            printer.show(0, {"auroc": untrained["auroc"]})
        for epoch in range(finished + 1, epochs + 1):
            began, calls = time.monotonic(), []
            for images, rows, count in feeder.epoch(epoch - 1):
                state, values = run_steps(state, images, rows, count, seed)
                calls.append((int(count), values))
            logged = {
                name: np.concatenate([np.asarray(values[name])[:count] for count, values in calls])
                for name in calls[0][1]
            }
            _require_finite_steps(logged, epoch, checkpoints)
            seconds.append(time.monotonic() - began)
            means: dict[str, float | None] = {name: float(numbers.mean()) for name, numbers in logged.items()}
            log.add("train", epoch, epoch * steps, {**means, "normal_images_per_s": images_per_epoch / seconds[-1]})
            if tester and test_every and epoch % test_every == 0:
                tested = tester.clean_view_metrics(state)
                log.add("test", epoch, epoch * steps, tested)
                means["auroc"] = tested["auroc"]
            printer.show(epoch, means)
            if epoch % checkpoint_every == 0 or epoch == epochs:
                _require_finite_state(state, epoch, checkpoints)
                checkpoints.save(state, config)
    finally:
        log.close()
    if len(seconds) < 2:
        return state, {}
    # the first epoch includes the compilation
    median = float(np.median(seconds[1:]))
    return state, {"speed": {"seconds_per_epoch": median, "normal_images_per_s": images_per_epoch / median}}


def _require_finite_steps(logged: dict[str, Float[np.ndarray, " s"]], epoch: int, checkpoints: Checkpoints) -> None:
    """Checks the values that the steps of an epoch (from 1) have logged."""
    values = np.stack(list(logged.values()))
    if (broken := np.flatnonzero(~np.isfinite(values).all(0))).size:
        step = (epoch - 1) * values.shape[1] + int(broken[0]) + 1
        raise _divergence(step, epoch, "the loss is not finite", checkpoints)


def _require_finite_state(state: TrainState, epoch: int, checkpoints: Checkpoints) -> None:
    """Checks a state before it is saved."""
    if not all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((state.params, state.batch_stats))):
        raise _divergence(int(state.step), epoch, "a parameter is not finite", checkpoints)


def _divergence(step: int, epoch: int, problem: str, checkpoints: Checkpoints) -> TrainingDivergedError:
    good = checkpoints.newest()
    where = f"the last good checkpoint is step {good} in {checkpoints.directory}"
    return TrainingDivergedError(
        f"step {step} (epoch {epoch}): {problem}; {where if good else 'there is no checkpoint yet'}. "
        "Lower --config.train.learning_rate, or use --config.model.dtype=float32"
    )
