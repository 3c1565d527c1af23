"""The augmentation, on the device: random resized crop, flip, jitter and grayscale; and rotations.

Functions of one image take its key and are vmapped by `augment_batch`. Definitions and distributions are torchvision's
(antialiased bilinear resizing), as in the released code.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from contrastive_jax.config import AugmentConfig
from contrastive_jax.views.color import random_grayscale, random_jitter

RATIO = (3 / 4, 4 / 3)
"""Range of width / height in RandomResizedCrop, which draws uniformly on a log scale."""
ATTEMPTS = 10
"""Boxes that RandomResizedCrop tries before it uses the centre of the image."""

FLIP, GRAYSCALE = 0.5, 0.2
"""Probabilities of a horizontal flip and of a view in grey [SimCLR, Chen et al. 2020]."""
JITTER, JITTER_PROBABILITY = (0.4, 0.4, 0.4, 0.1), 0.8
"""Strengths of ColorJitter (brightness, contrast, saturation, hue) and its probability [SimCLR on CIFAR-10: strength
0.5]."""


def resize_matrix(start: Array, length: Array, stored: int, size: int) -> Float[Array, "{size} {stored}"]:
    """Weights that resize the pixels [start, start + length) of a line of `stored` pixels to `size` pixels.

    A triangle filter whose width is the scale (antialiased bilinear, half-pixel centres), cut off at the ends of the
    interval and normalised.
    """
    scale = length / size
    centre = start + (jnp.arange(size) + 0.5) * scale
    source = jnp.arange(stored)
    weights = jnp.maximum(1 - jnp.abs(source + 0.5 - centre[:, None]) / jnp.maximum(scale, 1), 0)
    weights = jnp.where((source >= start) & (source < start + length), weights, 0)
    return weights / weights.sum(-1, keepdims=True)


def crop_resize(image: Float[Array, "h w 3"], box: Array, size: int) -> Float[Array, "{size} {size} 3"]:
    """Cuts `box` = (top, left, height, width), in pixels, out of the image and resizes it to a square."""
    rows = resize_matrix(box[0], box[2], image.shape[0], size).astype(image.dtype)
    columns = resize_matrix(box[1], box[3], image.shape[1], size).astype(image.dtype)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("ih,jw,hwc->ijc", rows, columns, image, precision=highest)


def random_box(key: Array, height: int, width: int, scale: tuple[float, ...]) -> Int[Array, "4"]:
    """The box of RandomResizedCrop: (top, left, height, width) in pixels.

    The area is uniform in `scale` times that of the image, and log(width / height) is uniform. The first of ten draws
    that fits is used, else the largest box in the centre with an allowed aspect.
    """
    area_key, ratio_key, corner_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (ATTEMPTS,), minval=scale[0], maxval=scale[1]) * (height * width)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (ATTEMPTS,), minval=jnp.log(RATIO[0]), maxval=jnp.log(RATIO[1])))
    # torchvision rounds half to even as jnp.round does
    widths = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    chosen = jnp.argmax(fits)
    fallback_width = min(width, round(height * RATIO[1]))
    fallback_height = min(height, round(width / RATIO[0]))
    box_width = jnp.where(fits[chosen], widths[chosen], fallback_width)
    box_height = jnp.where(fits[chosen], heights[chosen], fallback_height)
    margins = jnp.stack([height - box_height, width - box_width])
    corner = jax.random.randint(corner_key, (2,), 0, margins + 1)
    corner = jnp.where(fits[chosen], corner, margins // 2)
    return jnp.stack([corner[0], corner[1], box_height, box_width])


def augment(
    key: Array, image: UInt8[Array, "h w 3"], config: AugmentConfig, size: int
) -> Float[Array, "{size} {size} 3"]:
    """One random view of a stored image, in [0, 1]."""
    box_key, flip_key, jitter_key, gray_key = jax.random.split(key, 4)
    view = image.astype(jnp.float32) / 255
    view = crop_resize(view, random_box(box_key, image.shape[0], image.shape[1], config.crop_scale), size)
    view = jnp.where(jax.random.bernoulli(flip_key, FLIP), view[:, ::-1], view)
    view = random_jitter(jitter_key, view, JITTER, JITTER_PROBABILITY)
    return random_grayscale(gray_key, view, GRAYSCALE)


def normalise(images: Float[Array, "*n 3"], config: AugmentConfig) -> Float[Array, "*n 3"]:
    """(x - mean) / std, channel by channel."""
    return (images - jnp.asarray(config.mean)) / jnp.asarray(config.std)


def augment_batch(
    keys: Array, images: UInt8[Array, "n h w 3"], config: AugmentConfig, size: int
) -> Float[Array, "n {size} {size} 3"]:
    """One normalised random view of each image, each from its own key."""
    return normalise(jax.vmap(lambda key, image: augment(key, image, config, size))(keys, images), config)


def clean_batch(
    images: UInt8[Array, "n h w 3"], config: AugmentConfig, size: int, view: str
) -> Float[Array, "n {size} {size} 3"]:
    """The normalised views without augmentation: images resized (`whole`) or cropped in the centre (`center_crop`)."""
    height, width = images.shape[1:3]
    pixels = images.astype(jnp.float32) / 255
    if view == "center_crop":
        top, left = (height - size) // 2, (width - size) // 2
        pixels = pixels[:, top : top + size, left : left + size]
    elif (height, width) != (size, size):
        box = jnp.array([0, 0, height, width])
        pixels = jax.vmap(lambda image: crop_resize(image, box, size))(pixels)
    return normalise(pixels, config)


def rotate(images: Float[Array, "n s s 3"], degrees: int) -> Float[Array, "n s s 3"]:
    """The images rotated counter-clockwise by a multiple of 90 degrees."""
    return jnp.rot90(images, degrees // 90, axes=(1, 2))
