"""The saved state of a detection run in its workdir, from which the same command resumes after an interruption.

    .resume/RUN/settings.json          the settings that features and distances depend on; RUN is its digest
    .resume/RUN/CATEGORY.safetensors   the result of a finished category
    .resume/RUN/CATEGORY/              features and tables of the current category; of all with `resume_data=keep`

A finished category is identified by the paths, sizes and times (mtime and ctime) of its files. Comparing their content
would take minutes at every start for a large set on a network disk. Features and tables are identified by the images'
pixels, which have been read by then. Files are written atomically and carry a digest (`codegraph_jax.core.tensors`).
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import jax

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.consistency.review import Review
from codegraph_jax.core.environment import device_summary, package_versions
from codegraph_jax.core.files import PARTIAL, whole_file
from codegraph_jax.core.tensors import DamagedTensorsError
from codegraph_jax.core.user_code import user_code_digest
from codegraph_jax.core.workdir import RESUME
from codegraph_jax.data.decoding import page_of
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.roi import Roi
from codegraph_jax.data.samples import Sample
from codegraph_jax.result import DetectionResult
from codegraph_jax.resume.partial_run import PartialRun

SETTINGS = "settings.json"
FORMAT = 9
"""Version of the file format."""
WITHOUT_EFFECT = ("report", "metrics", "resources", "bank", "resume_data", "csv", "review")
"""Settings that results do not depend on; a review is compared by its content."""
DATA_WITH_EFFECT = ("layout", "unreadable", "draw", "range", "no_data")
"""Settings of `data` that results depend on besides the photos, which are compared themselves."""
SCORING = ("scoring", "recurring", "threshold")
"""Settings that features and distances do not depend on."""

logger = logging.getLogger(__name__)

Sets = Mapping[str, Sequence[Sample]]
"""Samples of each category, with those of `data.add` last."""


class _SavedCategory(NamedTuple):
    """Where the state of a category is saved.

    Attributes:
        result: file of its result.
        partial: directory of its features and tables.
        has_files: whether changed photos are noticed without reading them.
    """

    result: Path
    partial: Path
    has_files: bool


class RunState:
    """Saves the state of a run in its workdir until the run is finished; a failed write is only a warning.

    The run has locked the workdir. `sets` are the samples of all categories, and the answers of `review` are applied to
    the results.
    """

    def __init__(
        self,
        workdir: Path,
        config: Config,
        backbone: LoadedBackbone,
        sets: Sets,
        review: Review | None = None,
        roi: Roi | None = None,
    ):
        self._config, self._backbone = config, backbone
        self._root = workdir / RESUME
        values = _settings(config, backbone) | {"roi": roi.identity if roi else None}
        scoring = [values["config"].pop(name) for name in SCORING]
        scoring.append(review.as_json() if review else None)
        scoring.append(user_code_digest(config.scoring.score, "config.scoring.score"))
        settings = json.dumps(values, sort_keys=True)
        self._run_dir = self._root / _digest(settings)
        self._saved: dict[str, _SavedCategory] = {}
        for category, samples in sets.items():
            photos = [category, _files(samples, workdir if config.data.layout == "drawn" else None)]
            result = self._run_dir / f"{_digest(json.dumps([photos, scoring]))}.safetensors"
            # a prepared set of tensorflow-datasets does not change
            has_files = config.data.layout == "tfds" or all(sample.is_file for sample in samples)
            self._saved[category] = _SavedCategory(result, self._run_dir / _digest(json.dumps(photos)), has_files)
        self._warn_about_other_runs()
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            with whole_file(self._run_dir / SETTINGS) as name:
                Path(name).write_text(settings + "\n", encoding="ascii")
        except OSError as error:
            logger.warning("%s: the state of the run cannot be saved: %s", self._run_dir, error)

    def finished(self, category: str) -> DetectionResult | None:
        """The saved result of a category; None if the category is not finished."""
        path = self._saved[category].result
        try:
            return DetectionResult.read_file(path)
        except FileNotFoundError:
            return None
        except DamagedTensorsError as error:
            logger.warning("%s: cannot be used (%s); computing the category again", path, error)
            return None

    def partial_run(self, category: str, frame: Frame) -> PartialRun:
        """The store for features and tables of a category."""
        return PartialRun(self._saved[category].partial, self._config, self._backbone, frame)

    def finish(self, category: str, result: DetectionResult) -> None:
        """Saves a result and removes the features and tables of its category.

        With a bank or `config.resume_data=keep` the tables stay and no result is saved: the bank, or a run with other
        settings, is computed from the tables. The same holds for images without a file: only the keys of
        the tables show that one has changed.
        """
        saved = self._saved[category]
        if result.bank or self._config.resume_data == "keep" or not saved.has_files:
            return
        try:
            result.write_file(saved.result)
        except OSError as error:
            logger.warning("%s: the result of %s cannot be saved: %s", self._run_dir, category, error)
        else:
            shutil.rmtree(saved.partial, ignore_errors=True)

    def remove(self) -> None:
        """Removes all saved state in this workdir; with `resume_data=keep`, features and tables of this run stay."""
        if self._config.resume_data == "keep":
            kept = {self._run_dir / SETTINGS, *(saved.partial for saved in self._saved.values())}
            for path in (*_listed(self._root), *_listed(self._run_dir)):
                if path != self._run_dir and path not in kept:
                    _remove(path)
            return
        shutil.rmtree(self._root, ignore_errors=True)
        if self._root.exists():
            logger.warning("%s: cannot be removed; it is no longer needed, so delete it by hand", self._root)

    def _warn_about_other_runs(self) -> None:
        """Warns about saved state of other runs, which this run cannot use."""
        other = [p for p in _listed(self._root) if p != self._run_dir]
        own = {self._run_dir / SETTINGS}
        own |= {path for saved in self._saved.values() for path in (saved.result, saved.partial)}
        other += [p for p in _listed(self._run_dir) if p not in own]
        if other:
            logger.warning(
                "%s: settings or photos have changed since the interrupted run, so it cannot be resumed; its saved "
                "state is removed when this run is finished",
                self._root,
            )


def _settings(config: Config, backbone: LoadedBackbone) -> dict[str, Any]:
    """Everything that the result depends on; a new setting counts unless it is in `WITHOUT_EFFECT` or `data`."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in WITHOUT_EFFECT}
    return {
        "format": FORMAT,
        "config": values | {"data": {name: values["data"][name] for name in DATA_WITH_EFFECT}},
        "backbone": backbone.identity,
        "versions": package_versions(),
        "device": device_summary(),
        "processes": jax.process_count(),
    }


def _files(samples: Sequence[Sample], drawn_below: Path | None) -> list[Any]:
    """Path, name, size and times of each image; no times below `drawn_below`, where every start draws the set again."""
    drawn_root, listed = drawn_below and drawn_below.absolute(), []
    for sample in samples:
        try:
            status = Path(page_of(sample.path)[0]).stat()
            facts = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        except OSError as error:
            facts = [error.errno or 0]
        is_drawn = drawn_root is not None and Path(sample.path).absolute().is_relative_to(drawn_root)
        listed.append([sample.path, sample.name, *(facts[:1] if is_drawn else facts)])
    return listed


def _listed(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if not path.name.startswith(PARTIAL)]
    except OSError:
        return []


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=12).hexdigest()
