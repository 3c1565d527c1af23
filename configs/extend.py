r"""Adds approved parts to the references of a bank, so that their anomalies are no longer flagged.

    codegraph extend parts.safetensors /approved
    codegraph extend parts.safetensors --config.line=runs/line \
        --config.parts=12,15                              (parts of a line, by their numbers)
    codegraph extend parts.safetensors                  (its history)
    codegraph extend parts.safetensors --config.back_to=0

The references are the set of the bank and the 64 newest approved parts. The threshold does not change. The file keeps
the last 192 approved parts, so that the bank can return to earlier revisions (docs/line.md). Restart a line to load the
new bank.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import ExtendConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(ExtendConfig())
