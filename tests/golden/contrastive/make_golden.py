"""Makes the reference arrays of the contrastive tests with PyTorch and torchvision, in float64.

    python make_golden.py        (torch, torchvision and numpy; writes the .npz files beside this script)

The network, the losses and the step are written here a second time, from the paper's definitions and PyTorch's own
layers; nothing of the package is imported. Parameters are stored under the package's names and layouts.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF
from torchvision.transforms.functional import InterpolationMode

HERE = Path(__file__).parent
torch.manual_seed(0)


class Block(torch.nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = torch.nn.BatchNorm2d(width)
        self.shortcut_conv = self.shortcut_norm = None
        if stride != 1 or channels != width:
            self.shortcut_conv = torch.nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut_norm = torch.nn.BatchNorm2d(width)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.shortcut_conv is not None:
            x = self.shortcut_norm(self.shortcut_conv(x))
        return F.relu(x + y)


class Network(torch.nn.Module):
    def __init__(self, stem, width, head_dim):
        super().__init__()
        self.stem = stem
        self.stem_conv = (
            torch.nn.Conv2d(3, width, 3, 1, 1, bias=False)
            if stem == "cifar"
            else torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
        )
        self.stem_norm = torch.nn.BatchNorm2d(width)
        channels = width
        for stage in range(4):
            for block in range(2):
                out = width * 2**stage
                stride = 2 if stage > 0 and block == 0 else 1
                self.add_module(f"stage{stage + 1}_block{block + 1}", Block(channels, out, stride))
                channels = out
        self.head_hidden = torch.nn.Linear(channels, channels)
        self.head_norm = torch.nn.BatchNorm1d(channels)
        self.head_out = torch.nn.Linear(channels, head_dim)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem_conv(x)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)
        for stage, block in itertools.product(range(4), range(2)):
            x = getattr(self, f"stage{stage + 1}_block{block + 1}")(x)
        x = x.mean((2, 3))
        return self.head_out(F.relu(self.head_norm(self.head_hidden(x))))


def our_name(name, value):
    """A PyTorch name and tensor as the package's path and array."""
    *scope, leaf = name.split(".")
    array = value.detach().numpy()
    if leaf == "weight" and array.ndim == 4:
        return "/".join([*scope, "kernel"]), array.transpose(2, 3, 1, 0)
    if leaf == "weight" and array.ndim == 2:
        return "/".join([*scope, "kernel"]), array.T
    leaf = {"weight": "scale", "running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
    return "/".join([*scope, leaf]), array


def collect(prefix, items):
    return {f"{prefix}/{path}": array for path, array in (our_name(name, value) for name, value in items)}


def nt_xent(first, second, temperature):
    z = torch.cat([first, second])
    z = z / z.norm(dim=1, keepdim=True)
    n = len(first)
    losses = []
    for i in range(2 * n):
        similarity = [torch.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        positive = torch.exp(z[i] @ z[(i + n) % (2 * n)] / temperature)
        losses.append(-torch.log(positive / sum(similarity)))
    return sum(losses) / (2 * n)


def network_case(stem, size, width=2, head_dim=8, n=5, alpha=0.7, learning_rate=0.1):
    network = Network(stem, width, head_dim)
    # parameters that float32 holds exactly, and away from the initial 0 and 1 of BatchNorm
    for name, parameter in network.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.data += 0.2 * torch.rand_like(buffer)
    network = network.double()
    state = {k: v for k, v in network.named_buffers() if "running" in k}
    momentum = {k: torch.randn(v.shape).double() * 0.01 for k, v in network.named_parameters()}
    # sixteenths compress well
    views = (torch.randn(4 * n, size, size, 3) * 16).round().double() / 16
    arrays = {
        "views": views.numpy(),
        "alpha": alpha,
        "learning_rate": learning_rate,
        **collect("params", network.named_parameters()),
        **collect("batch_stats", state.items()),
        **collect("momentum", momentum.items()),
    }
    arrays = {k: np.array(v) for k, v in arrays.items()}  # copies, before the step moves them
    nchw = views.permute(0, 3, 1, 2)
    network.eval()
    arrays["head_eval"] = network(nchw).detach().numpy()
    network.train()
    head = network(nchw)
    contrastive = nt_xent(head[:n], head[n : 2 * n], 0.5)
    oe_norm = head[2 * n :].norm(dim=1).mean()
    loss = contrastive + alpha * oe_norm
    loss.backward()
    arrays |= {
        "head_train": head.detach().numpy(),
        "contrastive": contrastive.item(),
        "oe_norm": oe_norm.item(),
        "normal_norm": head[: 2 * n].norm(dim=1).mean().item(),
        "loss": loss.item(),
        **collect("grads", [(k, v.grad) for k, v in network.named_parameters()]),
        **collect("new_batch_stats", [(k, v) for k, v in network.named_buffers() if "running" in k]),
    }
    # SGD by hand: the decay joins the gradient, then momentum, then the rate
    moved = []
    for name, parameter in network.named_parameters():
        gradient = parameter.grad + 5e-4 * parameter.data
        moved.append((name, parameter.data - learning_rate * (0.9 * momentum[name] + gradient)))
    arrays |= collect("new_params", moved)
    np.savez_compressed(HERE / f"network_{stem}_{size}.npz", **{k: np.float32(v) for k, v in arrays.items()})


def loss_case():
    arrays = {}
    first, second, oe = (torch.randn(n, 6).double().requires_grad_() for n in (5, 5, 7))
    logit, oe_logit = (torch.randn(n, 1).double().requires_grad_() for n in (5, 7))

    def record(name, value, inputs):
        grads = torch.autograd.grad(value, list(inputs.values()))
        arrays[name] = value.item()
        for (key, tensor), grad in zip(inputs.items(), grads):
            arrays[f"{name}/{key}"] = tensor.detach().numpy()
            arrays[f"{name}/grad_{key}"] = grad.numpy()

    record("nt_xent", nt_xent(first, second, 0.5), {"first": first, "second": second})
    record("mean_norm", (oe**2).sum(1).sqrt().mean(), {"oe": oe})

    def h(z):
        return torch.sqrt((z**2).sum(1) + 1) - 1

    record(
        "hypersphere",
        (h(first).mean() - torch.log(1 - torch.exp(-h(oe)) + 1e-9).mean()) / 2,
        {"normal": first, "oe": oe},
    )
    bce = F.binary_cross_entropy_with_logits
    record(
        "binary_cross_entropy",
        (bce(logit[:, 0], torch.ones(5).double()) + bce(oe_logit[:, 0], torch.zeros(7).double())) / 2,
        {"normal": logit, "oe": oe_logit},
    )
    views = np.random.default_rng(0).normal(size=(4, 5, 6))
    arrays["views"] = views
    arrays["scores/mean_feature"] = [np.linalg.norm(np.mean([v[i] for v in views], 0)) for i in range(5)]
    arrays["scores/mean_view"] = [np.mean([np.dot(v[i], v[i]) for v in views]) for i in range(5)]
    arrays["scores/clean"] = [np.sqrt(np.dot(views[0][i], views[0][i])) for i in range(5)]
    np.savez_compressed(HERE / "losses.npz", **arrays)


def augment_case():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (14, 18, 3), dtype=np.uint8)
    image[2:5, 3:9] = image[2:5, 3:9, :1]  # some grey pixels: their hue is undefined
    pixels = torch.tensor(image).permute(2, 0, 1).float() / 255
    arrays = {"image": image}
    boxes = [(0, 0, 14, 18), (3, 2, 5, 4), (1, 7, 13, 9), (9, 11, 1, 3), (0, 0, 14, 14)]
    arrays["boxes"] = boxes
    for size in (8, 16):
        arrays[f"crops_{size}"] = [
            TF.resized_crop(pixels, *box, [size, size], InterpolationMode.BILINEAR, antialias=True)
            .permute(1, 2, 0)
            .numpy()
            for box in boxes
        ]
    operations = [TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue]
    single = {"brightness": (0.6, 1.3), "contrast": (0.7, 1.4), "saturation": (0.6, 1.4), "hue": (-0.1, 0.07)}
    for operation, (name, factors) in zip(operations, single.items()):
        arrays[f"{name}_factors"] = factors
        arrays[name] = [operation(pixels, factor).permute(1, 2, 0).numpy() for factor in factors]
    arrays["orders"] = list(itertools.permutations(range(4)))
    arrays["factors"] = rng.uniform((0.6, 0.6, 0.6, -0.1), (1.4, 1.4, 1.4, 0.1), (24, 4)).astype(np.float32)
    jittered = []
    for order, factors in zip(arrays["orders"], arrays["factors"]):
        x = pixels
        for operation in order:
            x = operations[operation](x, float(factors[operation]))
        jittered.append(x.permute(1, 2, 0).numpy())
    arrays["jittered"] = jittered
    arrays["gray"] = TF.rgb_to_grayscale(pixels, 3).permute(1, 2, 0).numpy()
    arrays["quarter_turn"] = TF.rotate(pixels[:, :, :14], 90).permute(1, 2, 0).numpy()
    for name, shape, scale in (("square", (32, 32), (0.08, 1.0)), ("wide", (20, 60), (0.5, 1.0))):
        blank = torch.zeros(3, *shape)
        draws = [RandomResizedCrop.get_params(blank, list(scale), [3 / 4, 4 / 3]) for _ in range(3000)]
        arrays[f"draws_{name}"] = np.array(draws, np.int16)
    np.savez_compressed(
        HERE / "augment.npz",
        **{k: np.float32(v) if np.asarray(v).dtype == np.float64 else np.asarray(v) for k, v in arrays.items()},
    )


if __name__ == "__main__":
    network_case("cifar", 32)
    network_case("imagenet", 48, n=4)
    loss_case()
    augment_case()
