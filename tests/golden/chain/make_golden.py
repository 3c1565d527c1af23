"""Makes chain.npz: the whole method in float64 NumPy on a small drawn set, with a tiny DINOv2 of random weights.

    python -m tests.golden.chain.make_golden

The package only draws the images, which are stored. tests/support/reference.py and the transformer below, written from
their definitions, compute the rest.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import erf

from codegraph_jax.data.synthetic import draw_set
from tests.support import reference

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "backbones" / "dinov2.safetensors"
SIZE, PATCH, GRID, HEADS = 20, 4, (5, 5), 2
DEGREES, FRACTION, NEIGHBOURS = (1, 3, 5), 0.3, (1, 2, 3)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def layer_norm(x, weights, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(x, weights, name):
    tokens, width = x.shape
    query, key, value = (
        linear(x, weights, f"{name}.attention.{part}").reshape(tokens, HEADS, -1) for part in ("query", "key", "value")
    )
    out = np.empty_like(query)
    for head in range(HEADS):
        logits = query[:, head] @ key[:, head].T / np.sqrt(width / HEADS)
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        out[:, head] = share / share.sum(axis=1, keepdims=True) @ value[:, head]
    return linear(out.reshape(tokens, width), weights, f"{name}.output.dense")


def transformer(image, weights):
    """[s, s, 3] -> (final-normed patch tokens of each block, final-normed class token)."""
    kernel = weights["embeddings.patch_embeddings.projection.weight"]
    tokens = []
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            patch = image[y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH].transpose(2, 0, 1)
            tokens.append((kernel * patch).sum(axis=(1, 2, 3)) + weights["embeddings.patch_embeddings.projection.bias"])
    x = (
        np.concatenate([weights["embeddings.cls_token"][0], np.stack(tokens)])
        + weights["embeddings.position_embeddings"][0]
    )
    blocks = []
    for layer in range(3):
        name = f"encoder.layer.{layer}"
        x = x + weights[f"{name}.layer_scale1.lambda1"] * attention(
            layer_norm(x, weights, f"{name}.norm1"), weights, f"{name}.attention"
        )
        hidden = linear(layer_norm(x, weights, f"{name}.norm2"), weights, f"{name}.mlp.fc1")
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = x + weights[f"{name}.layer_scale2.lambda1"] * linear(hidden, weights, f"{name}.mlp.fc2")
        blocks.append(layer_norm(x, weights, "layernorm"))
    return np.stack(blocks)[:, 1:], blocks[-1][0]


def main():
    weights = {key: value.astype(np.float64) for key, value in load_file(WEIGHTS).items()}
    images = draw_set(count=9, size=64, seed=3, one_off=0.3, recurring=()).images
    blocks, classes = [], []
    for image in images:
        resized = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        tokens, class_token = transformer((np.asarray(resized, np.float64) / 255 - MEAN) / STD, weights)
        blocks.append(tokens)
        classes.append(class_token)
    layers = np.stack(blocks, axis=1)
    scores = np.mean(
        [
            reference.mutual_scores(reference.distances(reference.aggregate(layer, degree, GRID)), FRACTION)
            for layer in layers
            for degree in DEGREES
        ],
        axis=0,
    ).reshape(-1, *GRID)
    maps = np.stack([reference.upsample(score, SIZE) for score in scores])
    raw = maps.max(axis=(1, 2))
    rescored = reference.rescore(raw, np.stack(classes), NEIGHBOURS)
    np.savez_compressed(HERE / "chain.npz", images=images, patch_scores=scores, maps=maps, raw=raw, rescored=rescored)


if __name__ == "__main__":
    main()
