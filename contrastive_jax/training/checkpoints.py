"""Checkpoints of a run, written by Orbax together with the settings that are needed to read them.

A run resumes from the newest readable step under `checkpoints/` and warns of steps that cannot be read. Orbax writes
into a temporary directory and renames it, so that a killed run leaves no incomplete step. Orbax takes
a third of a second to import, so it is imported where it is used.
"""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from codegraph_jax.core.errors import UserError
from contrastive_jax.config import OeclConfig
from contrastive_jax.training.state import TrainState

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
"""Number of checkpoints that are kept."""


class CheckpointError(UserError):
    """A checkpoint is missing or unreadable, or belongs to another network."""


class Checkpoints:
    """The checkpoints of one workdir."""

    def __init__(self, workdir: str | Path, read_only: bool = False):
        """Opens the folder `checkpoints` of a workdir, and creates it unless `read_only`.

        With `read_only`, incomplete steps are not removed, since a run may be writing them.
        """
        import orbax.checkpoint as ocp

        self.directory = Path(workdir).absolute() / "checkpoints"
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else KEPT_CHECKPOINTS,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=False,
        )
        # without handlers for both items, Orbax warns of an item that is not restored
        handlers = {"state": ocp.StandardCheckpointHandler(), "description": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)

    def save(self, state: TrainState, config: OeclConfig) -> None:
        """Writes the state, under its step, and the settings."""
        import orbax.checkpoint as ocp

        step = int(state.step)
        if step in self._manager.all_steps():
            return
        description = ocp.args.JsonSave({"config": dataclasses.asdict(config)})
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), description=description)
        self._manager.save(step, args=args)
        self._manager.wait_until_finished()

    def newest(self) -> int | None:
        """The newest step on disk; None if there is none."""
        return self._manager.latest_step()

    def settings(self) -> dict[str, Any]:
        """The settings in the newest readable checkpoint, as nested mappings.

        Raises:
            CheckpointError: no checkpoint can be read.
        """
        import orbax.checkpoint as ocp

        wanted = ocp.args.Composite(description=ocp.args.JsonRestore())
        found = self._newest_readable(lambda step: self._manager.restore(step, args=wanted)["description"])
        if found is None:
            raise CheckpointError(f"{self.directory}: holds no checkpoint that can be read")
        return dict(found["config"])

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest readable state, with the sharding of `like`; None if there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, but none can be read or has the arrays of `like`.
        """
        import orbax.checkpoint as ocp

        template = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        wanted = ocp.args.Composite(state=template)
        state: TrainState | None = self._newest_readable(lambda step: self._manager.restore(step, args=wanted)["state"])
        if state is None and (steps := self._manager.all_steps()):
            raise CheckpointError(
                f"{self.directory}: none of the checkpoints {sorted(steps)} can be read; start a new workdir"
            )
        return state

    def _newest_readable(self, read: Callable[[int], Any]) -> Any:
        """The result of `read` for the newest step for which it works; None if there is none."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return read(step)
            except Exception as error:  # storage libraries raise errors of their own
                reason = " ".join(str(error).split())[:200]
                logger.warning("%s: checkpoint of step %d cannot be read (%s)", self.directory, step, reason)
        return None

    def close(self) -> None:
        """Stops the threads of Orbax."""
        self._manager.close()
