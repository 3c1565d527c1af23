"""The network and the loss of the trainer in PyTorch; imported only if torch is installed."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from codegraph_jax.core.environment import usable_cores
from contrastive_jax.config import ModelConfig
from contrastive_jax.network.resnet import BLOCKS


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def network(config: ModelConfig) -> nn.Module:
    """ResNet-18 with its head."""
    width = config.width
    if config.stem == "cifar":
        layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    else:
        layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            layers.append(Block(channels, width * 2**stage, 2 if stage and not block else 1))
            channels = width * 2**stage
    head = [nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.ReLU(), nn.Linear(channels, config.head_dim)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def gradient(config: ModelConfig, size: int, views: int, batch_size: int) -> Callable[[], Any]:
    """A function that computes loss and gradient of random views, channels last, on all usable cores.

    Args:
        config: the network.
        size: side of the views.
        views: number of views in a step.
        batch_size: normal images in a step.
    """
    torch.set_num_threads(usable_cores())
    net = network(config).to(memory_format=torch.channels_last)
    images = torch.randn(views, 3, size, size).to(memory_format=torch.channels_last)
    pair = torch.arange(2 * batch_size).roll(batch_size)

    def call() -> None:
        net.zero_grad()
        features = net(images)
        unit = F.normalize(features[: 2 * batch_size])
        logits = (unit @ unit.T / 0.5).fill_diagonal_(float("-inf"))
        loss = F.cross_entropy(logits, pair) + features[2 * batch_size :].norm(dim=1).mean()
        loss.backward()

    return call
