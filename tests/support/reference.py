"""The method in slow float64 NumPy, written from the definitions, with which the tests compare the package.

Nothing here is shared with the package: no symmetry, no reuse, no box filter by windows.
"""

import numpy as np


def aggregate(tokens: np.ndarray, degree: int, grid: tuple[int, int]) -> np.ndarray:
    """[n, p, c] -> unit vectors [n, p, c]: layer normalisation over the image, then a zero-padded mean."""
    tokens = tokens.astype(np.float64)
    mean = tokens.mean(axis=(1, 2), keepdims=True)
    variance = tokens.var(axis=(1, 2), keepdims=True)
    out = box_means((tokens - mean) / np.sqrt(variance + 1e-5), degree, grid)
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


def box_means(normalised: np.ndarray, degree: int, grid: tuple[int, int]) -> np.ndarray:
    """[n, p, c] -> [n, p, c]: the zero-padded mean over degree x degree patches."""
    n, p, c = normalised.shape
    margin = degree // 2
    padded = np.pad(normalised.reshape(n, *grid, c), ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    out = np.empty((n, *grid, c))
    for y in range(grid[0]):
        for x in range(grid[1]):
            out[:, y, x] = padded[:, y : y + degree, x : x + degree].sum(axis=(1, 2)) / degree**2
    return out.reshape(n, p, c)


def distances(features: np.ndarray) -> np.ndarray:
    """[n, p, c] unit vectors -> [n, m, p]: each patch's distance to each image, infinite to its own."""
    n, p, _ = features.shape
    out = np.full((n, n, p), np.inf)
    for i in range(n):
        for j in range(n):
            if i != j:
                difference = features[i][:, None, :] - features[j][None, :, :]
                out[i, j] = np.sqrt((difference**2).sum(-1)).min(axis=1)
    return out


def mutual_scores(table: np.ndarray, fraction: float) -> np.ndarray:
    """[n, m, p] -> [n, p]: mean of the K smallest distances."""
    k = max(1, int(fraction * (table.shape[1] - 1)))
    return np.sort(table, axis=1)[:, :k].mean(axis=1)


def upsample(scores: np.ndarray, size: int) -> np.ndarray:
    """[h, w] -> [s, s], bilinear, align_corners=True."""
    h, w = scores.shape
    out = np.empty((size, size))
    for a in range(size):
        for b in range(size):
            y, x = a * (h - 1) / (size - 1), b * (w - 1) / (size - 1)
            y0, x0 = min(int(y), h - 2), min(int(x), w - 2)
            dy, dx = y - y0, x - x0
            out[a, b] = (
                scores[y0, x0] * (1 - dy) * (1 - dx)
                + scores[y0, x0 + 1] * (1 - dy) * dx
                + scores[y0 + 1, x0] * dy * (1 - dx)
                + scores[y0 + 1, x0 + 1] * dy * dx
            )
    return out


def rescore(scores: np.ndarray, features: np.ndarray, neighbours: tuple[int, ...]) -> np.ndarray:
    """Image-level re-scoring: [n] scores, [n, d] image features -> [n]."""
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    weights = features @ features.T
    total = np.zeros_like(scaled)
    for k in neighbours:
        kept = np.zeros_like(weights)
        for i, row in enumerate(weights):
            best = np.argsort(-row, kind="stable")[: min(k, len(row))]
            kept[i, best] = row[best]
        total += kept @ scaled / kept.sum(axis=1)
    return total / len(neighbours)
