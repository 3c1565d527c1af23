"""The class OECL, which trains on arrays or files, scores others, and is saved in a directory (arXiv:2312.15288)."""

import dataclasses
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.files import finite_or_none, write_json
from codegraph_jax.core.json_fields import flattened
from codegraph_jax.core.settings import ConfigError, read_config, with_settings
from codegraph_jax.core.workdir import WorkdirError, locked
from codegraph_jax.data.images import load_image
from codegraph_jax.data.measured_range import measured_range
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.value_range import given_range
from contrastive_jax.config import OeclConfig, with_value_range
from contrastive_jax.data.image_set import Images, square
from contrastive_jax.data.protocols import ProtocolError
from contrastive_jax.data.sources import RunData, check_overlap
from contrastive_jax.evaluation.evaluate import Scorer, Scores, build_scorer
from contrastive_jax.network.resnet import build_network
from contrastive_jax.objectives import DEFAULT_SCORE, OBJECTIVES
from contrastive_jax.report.manifest import require_same_run, run_identity, versions_and_device
from contrastive_jax.report.result_files import MANIFEST
from contrastive_jax.trainer import train_network
from contrastive_jax.training.checkpoints import CheckpointError, Checkpoints
from contrastive_jax.training.mesh import BATCH_AXIS, put_on_mesh, run_mesh
from contrastive_jax.training.state import TrainState, build_optimizer, initial_state


class OECL:
    """A network that is trained on normal images and scores how normal other images are.

    Args:
        config: settings of the training; sources and tests are ignored.
        **fields: fields of the config by their names, such as `seed`, `epochs`, `objective`, `width`, `image_size`,
            `alpha` or `batch_size` (of the training), or by their paths, as in `**{"evaluation.batch_size": 64}`.

    Raises:
        ConfigError: a field is unknown, a name is in several groups, or a value is invalid.

    Attributes:
        config: the settings.
        state: the trained parameters; None before `fit`.

    Examples:
        >>> import numpy as np
        >>> from contrastive_jax import OECL
        >>> draw = np.random.default_rng(0)
        >>> discs = draw.integers(0, 255, (8, 16, 16, 3), np.uint8)
        >>> noise = draw.integers(0, 255, (8, 16, 16, 3), np.uint8)
        >>> model = OECL(image_size=16, width=2, epochs=1, batch_size=4).fit(discs, noise)
        >>> model.score(discs[:3], views=2).shape
        (3,)

    See Also:
        contrastive_jax.trainer.train: trains on a source and tests, with a workdir from which a run resumes.
    """

    def __init__(self, config: OeclConfig | None = None, **fields: Any):
        self.config = with_fields(config or OeclConfig(), fields)
        self.state: TrainState | None = None
        self._scorers: dict[int, Scorer] = {}

    def fit(
        self,
        images: Sequence[Any] | UInt8[np.ndarray, "n h w 3"],
        outliers: Sequence[Any] | UInt8[np.ndarray, "m h w 3"] | None = None,
        workdir: str | Path | None = None,
        *,
        progress: bool = False,
    ) -> "OECL":
        """Trains on normal images, with outlier exposure if the objective uses it.

        Args:
            images: normal images: uint8 arrays ([n, h, w, 3], or a list of [h, w, 3] or [h, w]), arrays of floats from
                0 to 1, or paths of files. They are resized by their shorter side to the stored size, and cropped to a
                square.
            outliers: OE images, for the objectives `oecl`, `hsc` and `bce` only.
            workdir: directory of checkpoints and metrics.jsonl, from which an interrupted call with the same arguments
                resumes; None: a temporary directory.
            progress: whether to print progress lines.

        Returns:
            self.

        Raises:
            ConfigError: there are several processes.
            ProtocolError: there are too few images, the objective needs outliers or has none, or all outliers are
                normal images too.
            WorkdirError: `workdir` holds another run, or one that is still running.
            TrainingDivergedError: a loss became infinite or NaN.
        """
        if jax.process_count() > 1:
            raise ConfigError("fit: trains in one process; for several processes use codegraph train --coordinator=...")
        objective = OBJECTIVES[self.config.train.objective]
        if objective.needs_oe != (outliers is not None):
            what = "needs outliers" if objective.needs_oe else "takes no outliers"
            raise ProtocolError(f"fit: the objective {self.config.train.objective} {what}")
        if not isinstance(images, np.ndarray):
            images = as_samples(images)
        settings = self.config.data
        if not settings.range:
            measured = measured_range(as_samples(images), settings.no_data)
            if measured:
                self.config = with_value_range(self.config, measured)
        normal = self._stored(images)
        if len(normal) < self.config.train.batch_size:
            raise ProtocolError(f"fit: batch_size {self.config.train.batch_size} is more than {len(normal)} images")
        exposed = None if outliers is None else self._stored(outliers)
        if exposed is not None:
            check_overlap(exposed, normal, None)
        with (
            TemporaryDirectory(prefix="oecl-") if workdir is None else nullcontext(workdir) as directory,
            locked(Path(directory)),
        ):
            self.state = self._train(RunData(normal, exposed, None), Path(directory), progress)
        return self

    def score(
        self, images: Sequence[Any] | UInt8[np.ndarray, "n h w 3"], views: int | None = None
    ) -> Float[np.ndarray, " n"]:
        """Scores of images, larger = more normal: the norm of the mean feature of their views.

        Args:
            images: as for `fit`.
            views: augmented views in addition to the clean one; None: `config.evaluation.views`.

        Raises:
            ProtocolError: nothing has been fitted.
        """
        return self.scores(images, views)[DEFAULT_SCORE]

    def scores(self, images: Sequence[Any] | UInt8[np.ndarray, "n h w 3"], views: int | None = None) -> Scores:
        """All scores by name, see `objectives.view_scores`; arguments and errors as for `score`."""
        if self.state is None:
            raise ProtocolError("score: nothing has been fitted; call fit, or load a saved network")
        stored = self._stored(images)
        views = self.config.evaluation.views if views is None else views
        if views not in self._scorers:
            network = build_network(self.config.model, self.config.train.objective, BATCH_AXIS)
            # cached, since it holds a compiled program
            self._scorers[views] = build_scorer(network, self.config, run_mesh(), views)
        return self._scorers[views](self.state.variables, stored)

    def save(self, directory: str | Path) -> None:
        """Writes the network and its settings into a directory, in the format of a run's workdir.

        Raises:
            ProtocolError: nothing has been fitted.
            WorkdirError: the directory holds checkpoints already.
        """
        if self.state is None:
            raise ProtocolError("save: nothing has been fitted; call fit first")
        path = Path(directory)
        if (path / "checkpoints").exists():
            raise WorkdirError(f"{path}: holds a network already; choose another directory")
        path.mkdir(parents=True, exist_ok=True)
        with closing(Checkpoints(path)) as checkpoints:
            checkpoints.save(self.state, self.config)

    @classmethod
    def load(cls, directory: str | Path) -> "OECL":
        """Loads a network that `save` has written, or the newest checkpoint of a run's workdir.

        Raises:
            CheckpointError: no checkpoint can be read.
        """
        if not (Path(directory) / "checkpoints").is_dir():
            raise CheckpointError(f"{str(directory)!r} holds no checkpoints; give the workdir of a training run")
        with closing(Checkpoints(directory, read_only=True)) as checkpoints:
            try:
                model = cls(read_config(OeclConfig, checkpoints.settings()))
            except ConfigError as error:
                reason = f"its settings are not those of this version ({str(error).partition(';')[0]}); train it again"
                raise CheckpointError(f"{str(directory)!r}: {reason}") from None
            config = model.config
            network = build_network(config.model, config.train.objective, BATCH_AXIS)
            like = initial_state(network, build_optimizer(config.train, 1), config.data.image_size, config.seed)
            model.state = checkpoints.restore(put_on_mesh(like, run_mesh()))
        return model

    def _train(self, data: RunData, workdir: Path, progress: bool) -> TrainState:
        identity = run_identity(self.config, data.normal, data.oe, None)
        require_same_run(workdir, identity)
        write_json(workdir / MANIFEST, finite_or_none({**identity, **versions_and_device()}))
        return train_network(self.config, data, workdir, progress=progress)[0]

    def _stored(self, images: Sequence[Any] | np.ndarray) -> Images:
        """The images at the stored size."""
        size = self.config.data.stored_size
        if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == (size, size, 3):
            return images
        if not (samples := as_samples(images)):
            raise ProtocolError("there are no images; give at least one")
        value_range = given_range(self.config.data.range, self.config.data.no_data)
        return np.stack([square(load_image(sample, value_range), size) for sample in samples])


def with_fields(config: OeclConfig, fields: dict[str, Any]) -> OeclConfig:
    """The settings with some fields replaced, by their names or dotted paths, checked.

    `image_size` also raises `stored_size` where necessary.

    Raises:
        ConfigError: a field is unknown, a name is in several groups, or a value is invalid.
    """
    paths = [*flattened(dataclasses.asdict(config))]
    changes = {_path_of(name, paths): value for name, value in fields.items()}
    if "data.image_size" in changes and "data.stored_size" not in changes:
        changes["data.stored_size"] = max(config.data.stored_size, changes["data.image_size"])
    return with_settings(config, changes)


def _path_of(field: str, paths: list[str]) -> str:
    """The dotted path of a field that is given by its name or by its path."""
    names = [path.rpartition(".")[2] for path in paths]
    found = [path for path, name in zip(paths, names) if field in (path, name)]
    if not found:
        known = sorted({*names})
        hint = did_you_mean(field, known, f"known fields: {', '.join(known)}")
        raise ConfigError(f"OECL: there is no field {field!r}; {hint}")
    if len(found) > 1 and field != "batch_size":
        forms = " or ".join(f"**{{{path!r}: ...}}" for path in found)
        raise ConfigError(f"OECL: the field {field!r} is in several groups; write {forms}")
    # of two batch sizes, that of the training comes first
    return found[0]
