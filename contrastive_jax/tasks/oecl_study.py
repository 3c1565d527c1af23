"""The task `oecl_study`: the table of several training runs."""

from collections.abc import Mapping
from typing import Any

from contrastive_jax.study import read_study_config, run_study


def run(values: Mapping[str, Any], workdir: str) -> None:
    """`study.run_study` of a ConfigDict, see `contrastive_jax.study.StudyConfig`."""
    run_study(read_study_config(values), workdir)
