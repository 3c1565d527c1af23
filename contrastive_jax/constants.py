"""Constants of the training by OECL, with their sources."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OeclConstants:
    """Constants of augmentation and optimiser [SimCLR, Chen et al. 2020], and of rotations [arXiv:2312.15288]."""

    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: tuple[float, ...] = (0.4, 0.4, 0.4, 0.1)
    """Strengths of ColorJitter: brightness, contrast, saturation, hue [SimCLR on CIFAR-10: strength 0.5]."""
    jitter_probability: float = 0.8
    grayscale: float = 0.2
    """Probability that a view is converted to grey."""
    momentum: float = 0.9
    """Momentum of SGD [arXiv:2312.15288]."""
    normal_rotations: tuple[int, ...] = (0, 90)
    """Degrees by which the mode `self_oecl` rotates normal views, each an instance of its own."""
    oe_rotations: tuple[int, ...] = (180, 270)
    """Degrees by which it rotates normal views to make OE views."""


CONSTANTS = OeclConstants()
"""The constants of every run."""
