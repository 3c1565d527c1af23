"""Colour jitter of one image in [0, 1], as torchvision defines it for float tensors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Image = Float[Array, "h w 3"]
Scalar = Float[Array, ""]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luma(image: Image) -> Float[Array, "h w"]:
    """ITU-R 601-2 luma, with torchvision's coefficients."""
    return 0.2989 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]


def blend(image: Image, factor: Scalar, operation: Int[Array, ""]) -> Image:
    """Brightness, contrast or saturation: factor x + (1 - factor) reference, clipped to [0, 1].

    The reference is black, the mean luma of the image, or the luma of the pixel. A factor of 1 changes nothing.
    """
    gray = luma(image)
    reference = jnp.where(operation == CONTRAST, gray.mean(), jnp.where(operation == SATURATION, gray, 0))
    return jnp.clip(factor * image + (1 - factor) * reference[..., None], 0, 1)


def shift_hue(image: Image, turn: Scalar) -> Image:
    """Turns the hue by `turn` (1 is the full circle); value and HSV saturation stay."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    # which channel is largest is asked by order, never by equality with the maximum: a compiler that computes a channel
    # twice may round it twice, and then no channel equals the maximum
    red_leads = (red >= green) & (red >= blue)
    green_leads = green >= blue
    value = image.max(-1)
    chroma = value - image.min(-1)
    safe = jnp.where(chroma == 0, 1, chroma)
    sextant = jnp.where(
        red_leads,
        (green - blue) / safe,
        jnp.where(green_leads, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = sextant + 6 * turn
    # channel(n) = value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + hue) mod 6: the inverse without its six branches
    place = jnp.mod(jnp.array([5.0, 3.0, 1.0], image.dtype) + hue[..., None], 6)
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)


def adjust(image: Image, factors: Float[Array, "4"], order: Int[Array, "4"]) -> Image:
    """Applies brightness, contrast, saturation and hue (by `factors`, in that numbering) in the given order.

    Under `vmap` a switch over the 24 orders would run them all. Three of the four operations are one blend with another
    reference, and a blend by the factor 1 is the identity, so that any order is: the blends that come before the hue
    (the others by 1), the hue, the blends that come after it. Six blends and one hue shift.
    """
    hue_place = jnp.argmax(order == HUE)
    slots = jnp.arange(3)
    blends = order[slots + (slots >= hue_place)]
    before = jnp.where(slots < hue_place, factors[blends], 1)
    after = jnp.where(slots < hue_place, 1, factors[blends])
    for slot in range(3):
        image = blend(image, before[slot], blends[slot])
    image = shift_hue(image, factors[HUE])
    for slot in range(3):
        image = blend(image, after[slot], blends[slot])
    return image


def random_jitter(key: Array, image: Image, strengths: tuple[float, ...], probability: float) -> Image:
    """ColorJitter with the given strengths, in random order, with the given probability.

    Factors of brightness, contrast and saturation are uniform in 1 +- strength (not below 0), the hue's turn in
    +-strength.
    """
    for_factors, for_order, for_choice = jax.random.split(key, 3)
    spread = jnp.asarray(strengths, image.dtype)
    low = jnp.where(jnp.arange(4) == HUE, -spread, jnp.maximum(1 - spread, 0))
    high = jnp.where(jnp.arange(4) == HUE, spread, 1 + spread)
    factors = jax.random.uniform(for_factors, (4,), image.dtype) * (high - low) + low
    # the ranks of four uniforms are a uniform permutation, and cheaper than a shuffle under vmap
    order = jnp.argsort(jax.random.uniform(for_order, (4,)))
    return jnp.where(jax.random.bernoulli(for_choice, probability), adjust(image, factors, order), image)


def random_grayscale(key: Array, image: Image, probability: float) -> Image:
    """The luma in all three channels, with the given probability."""
    return jnp.where(jax.random.bernoulli(key, probability), luma(image)[..., None], image)
