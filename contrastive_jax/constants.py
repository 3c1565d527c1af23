"""Constants of the training by OECL, with their sources."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OeclConstants:
    """Constants of augmentation, optimiser and rotations.

    Attributes:
        flip: probability of a horizontal flip [SimCLR, Chen et al. 2020].
        jitter: strengths of ColorJitter: brightness, contrast, saturation, hue [SimCLR on CIFAR-10: strength 0.5].
        jitter_probability: probability that a view is jittered [SimCLR].
        grayscale: probability that a view is converted to grey [SimCLR].
        momentum: of SGD [arXiv:2312.15288].
        normal_rotations: degrees by which the mode `self_oecl` rotates normal views, each an instance of its own
            [arXiv:2312.15288].
        oe_rotations: degrees by which it rotates normal views to make OE views [arXiv:2312.15288].
    """

    flip: float = 0.5
    jitter: tuple[float, ...] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    grayscale: float = 0.2
    momentum: float = 0.9
    normal_rotations: tuple[int, ...] = (0, 90)
    oe_rotations: tuple[int, ...] = (180, 270)


CONSTANTS = OeclConstants()
"""The constants of every run."""
