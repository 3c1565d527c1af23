"""Published results of OECL on CIFAR-10; only numbers whose source was read."""

from collections.abc import Mapping
from typing import Any

from studies.papers.reproduction import MEAN, Published

SOURCE = "the README of https://github.com/nguoikhongnao/real_OECL (arXiv:2312.15288)"
CIFAR = (
    "CIFAR-10 and CIFAR-100, https://www.cs.toronto.edu/~kriz/cifar.html, as tensorflow-datasets or .npz (docs/oecl.md)"
)
OTHER_OE = "published with 80 Million Tiny Images as outlier exposure, which are withdrawn; CIFAR-100 here"
CLASSES = tuple(map(str, range(10)))


def _one(title: str, config: str, changes: Mapping[str, Any], auroc: float, note: str = "") -> Published:
    return Published(f"{title}, CIFAR-10", config, changes, {MEAN: {"auroc": auroc}}, CLASSES, SOURCE, CIFAR, note)


PAPERS = {
    "oecl": (
        _one("OECL, one class against the rest", "cifar10_oecl", {}, 97.8, OTHER_OE),
        _one("self-OECL, one class against the rest", "cifar10_self_oecl", {}, 94.7),
        _one("OECL, leaving one class out", "cifar10_loo", {}, 94.6, OTHER_OE),
        _one("SimCLR, leaving one class out", "cifar10_loo", {"train.objective": "simclr"}, 83.9),
        _one("HSC, one class against the rest", "cifar10_oecl", {"train.objective": "hsc"}, 95.9, OTHER_OE),
        _one("HSC, leaving one class out", "cifar10_loo", {"train.objective": "hsc"}, 84.8, OTHER_OE),
        _one("BCE, leaving one class out", "cifar10_loo", {"train.objective": "bce"}, 86.6, OTHER_OE),
    ),
}
"""The published tables by paper."""
