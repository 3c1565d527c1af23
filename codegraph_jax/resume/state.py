"""The state of a detection run in its workdir, for the same command to go on from after an interruption.

    .resume/RUN/settings.json          what features and distances depend on; RUN is its digest
    .resume/RUN/CATEGORY.safetensors   the result of a finished category
    .resume/RUN/CATEGORY/              features and tables, while it is worked on and with `config.keep` afterwards too

A finished category is known by its files' paths, sizes and times (of content and of status, which no program sets at
will). Comparing their bytes would notice nothing more in practice, and reading them once more at every start takes
minutes for a large set on a network disk. Features and tables are known by the pixels, which have been read by then.
Every file is whole or absent and carries a digest (`codegraph_jax.core.tensors`).
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax

from codegraph_jax.backbones import Backbone, weights_identity
from codegraph_jax.config import Config
from codegraph_jax.consistency.review import Review
from codegraph_jax.core.environment import device_summary, package_versions
from codegraph_jax.core.files import PARTIAL, whole_file
from codegraph_jax.core.tensors import DamagedTensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import page_of
from codegraph_jax.data.roi import Roi
from codegraph_jax.data.samples import Sample
from codegraph_jax.features.memory import feature_type
from codegraph_jax.result import DetectionResult
from codegraph_jax.resume.finished import read_result, write_result
from codegraph_jax.resume.partial_run import PartialRun

DIRECTORY, SETTINGS = ".resume", "settings.json"
FORMAT = 4
"""Changes when the meaning of a file does."""
CHANGE_NO_NUMBER = ("report", "metrics", "storage", "bank", "resume", "keep", "data", "review")
"""Parts of the settings that no result of a category depends on; of `data`, what it depends on is put back, and a
review counts by its content."""
JUDGING = ("scoring", "consistency", "threshold")
"""Parts of the settings that features and distances do not depend on."""

logger = logging.getLogger(__name__)

Sets = Mapping[str, Sequence[Sample]]
"""For each category its samples, those of `data.add` last."""


class RunState:
    """What of a run is kept, until it is finished. Failing to keep it is a warning."""

    def __init__(
        self,
        workdir: Path,
        config: Config,
        backbone: Backbone,
        sets: Sets,
        review: Review | None = None,
        roi: Roi | None = None,
    ):
        """
        Args:
            workdir: held by this run alone.
            config: its settings.
            backbone: of the run.
            sets: everything that it will work on.
            review: what it is judged with.
            roi: what is inspected.
        """
        self._config, self._backbone = config, backbone
        self._root = workdir / DIRECTORY
        values = _settings(config, backbone) | {"roi": roi.identity if roi else None}
        judging = [values["config"].pop(name) for name in JUDGING]
        judging.append(review.as_json() if review else None)
        settings = json.dumps(values, sort_keys=True)
        self._home = self._root / _digest(settings)
        # a drawn set is written anew at every start; the settings say what it holds
        stamped = config.data.layout != "drawn"
        files = {category: [category, _files(samples, stamped)] for category, samples in sets.items()}
        self._results = {
            category: self._home / f"{_digest(json.dumps([listed, judging]))}.safetensors"
            for category, listed in files.items()
        }
        self._tables = {category: self._home / _digest(json.dumps(listed)) for category, listed in files.items()}
        self._warn_of_foreign()
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            with whole_file(self._home / SETTINGS) as name:
                Path(name).write_text(settings + "\n", encoding="ascii")
        except OSError as error:
            logger.warning("%s: nothing is kept for going on after an interruption: %s", self._home, error)

    def finished(self, category: str) -> DetectionResult | None:
        """The result of a category that an earlier start has finished."""
        path = self._results[category]
        try:
            return read_result(path)
        except FileNotFoundError:
            return None
        except DamagedTensors as error:
            logger.warning("%s: is not used, and the category is computed anew (%s)", path, error)
            return None

    def partial_run(self, category: str, frame: Frame) -> PartialRun:
        """Features and tables of a category, whose photographs are framed like this."""
        config, directory = self._config, self._tables[category]
        dtype = feature_type(config.features.dtype, config.similarity.precision)
        keep_features = not config.data.cache
        return PartialRun(directory, self._backbone, frame, keep_features, dtype, at_any_cost=config.keep)

    def finish(self, category: str, result: DetectionResult) -> None:
        """Keeps a result in the place of the features and tables that it was made from."""
        if result.bank or self._config.keep:
            # a bank is learnt from the tables, and another judgement too: they stay, and the quick half of the method
            # is repeated
            return
        try:
            write_result(self._results[category], result)
        except OSError as error:
            logger.warning("%s: the result of %s is not kept: %s", self._home, category, error)
        else:
            shutil.rmtree(self._tables[category], ignore_errors=True)

    def remove(self) -> None:
        """Removes the state of this run, which is finished, and of others in this workdir; but what is to be kept."""
        if self._config.keep:
            kept = {*self._tables.values(), self._home / SETTINGS}
            for path in (*_listed(self._root), *_listed(self._home)):
                if path != self._home and path not in kept:
                    _remove(path)
            return
        shutil.rmtree(self._root, ignore_errors=True)
        if self._root.exists():
            logger.warning("%s: cannot be removed; it is no longer needed and may be deleted", self._root)

    def _warn_of_foreign(self) -> None:
        """Says that what lies there is not of this run, so that nobody waits for it to go on."""
        other = [p for p in _listed(self._root) if p != self._home]
        own = {*self._results.values(), *self._tables.values(), self._home / SETTINGS}
        other += [p for p in _listed(self._home) if p not in own]
        if other:
            logger.warning(
                "%s: what a run with other settings or images has left there is not gone on with; it is removed when "
                "this run is finished",
                self._root,
            )


def _settings(config: Config, backbone: Backbone) -> dict[str, Any]:
    """All that the result of a set of images depends on; a new setting counts until it is known to change nothing."""
    values = dataclasses.asdict(config)
    data = values["data"]
    return {
        "format": FORMAT,
        "config": {name: value for name, value in values.items() if name not in CHANGE_NO_NUMBER},
        "data": {name: data[name] for name in ("layout", "unreadable", "draw", "range")},
        "weights": weights_identity(backbone.weights),
        "architecture": dataclasses.asdict(backbone.model.architecture),
        "versions": package_versions(),
        "device": device_summary(),
        "processes": jax.process_count(),
    }


def _files(samples: Sequence[Sample], stamped: bool) -> list[Any]:
    """Each image by its path, size and times."""
    listed: list[Any] = []
    for sample in samples:
        entry: list[Any] = [sample.path, sample.name]
        if stamped or sample.name.startswith("added/"):
            try:
                status = Path(page_of(sample.path)[0]).stat()
                entry += [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            except OSError as error:
                entry.append(error.errno)
        listed.append(entry)
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
