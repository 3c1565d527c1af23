"""CoDeGraph in JAX: zero-shot anomaly detection on a folder of unlabelled images of one product."""

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import Config
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.result import DetectionResult

__all__ = ["CoDeGraph", "Config", "DetectionResult", "ReferenceBank"]
__version__ = "0.1.0"
