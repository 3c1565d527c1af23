"""Adds good parts to the references of a bank, so that they are no longer flagged, or defective ones.

    codegraph extend parts.safetensors /good/photos
    codegraph extend parts.safetensors --line=runs/line --parts=12,15    (parts of a line, by their numbers)
    codegraph extend parts.safetensors /bad --defective
    codegraph extend parts.safetensors                  (its history)
    codegraph extend parts.safetensors --back-to=0

The references are the set of the bank and the 64 newest good parts. The threshold does not change. The file keeps
the last 192 parts that were added, so that the bank can return to earlier revisions (docs/line.md). Restart a line to
load the new bank.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import ExtendConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(ExtendConfig())
