"""CoDeGraph in JAX: zero-shot anomaly detection on a folder of unlabelled images of one product."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codegraph_jax.backbones.protocol import Backbone as Backbone
    from codegraph_jax.bank.reference_bank import ReferenceBank as ReferenceBank
    from codegraph_jax.config import Config as Config
    from codegraph_jax.data.own_sets import as_samples as as_samples
    from codegraph_jax.data.samples import Sample as Sample
    from codegraph_jax.detector import CoDeGraph as CoDeGraph
    from codegraph_jax.evaluation.changes import compare_results as compare_results
    from codegraph_jax.result import DetectionResult as DetectionResult
    from codegraph_jax.scoring.active_calibration import ActiveCalibrator as ActiveCalibrator

__version__ = "0.2.0"

_MODULES = {
    "ActiveCalibrator": "scoring.active_calibration",
    "Backbone": "backbones.protocol",
    "CoDeGraph": "detector",
    "Config": "config",
    "DetectionResult": "result",
    "ReferenceBank": "bank.reference_bank",
    "Sample": "data.samples",
    "as_samples": "data.own_sets",
    "compare_results": "evaluation.changes",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """A public name, whose module is imported at first use, so that the command line starts without loading JAX."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
