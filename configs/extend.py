"""Parts that a person has approved become references of a bank, so that what they show is flagged no more.

    codegraph extend parts.safetensors /approved
    codegraph extend parts.safetensors --config.line=runs/line \\
        --config.parts=12,15                              (parts that a line has judged, by their numbers)
    codegraph extend parts.safetensors                  (its history)
    codegraph extend parts.safetensors --config.back_to=0

The 64 newest approved parts serve, older ones leave, and the set that made the bank stays. The threshold follows. The
file keeps 192 approved parts, so that the bank can go back to any chapter that they reach (docs/line.md). Restart a
line to let it use the new bank.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import ExtendConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(ExtendConfig())
