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
    """Adjusts brightness, contrast or saturation: factor x + (1 - factor) reference, clipped to [0, 1].

    The reference is black, the mean luma of the image, or the luma of the pixel.
    """
    gray = luma(image)
    reference = jnp.where(operation == CONTRAST, gray.mean(), jnp.where(operation == SATURATION, gray, 0))
    return jnp.clip(factor * image + (1 - factor) * reference[..., None], 0, 1)


def shift_hue(image: Image, shift: Scalar) -> Image:
    """Shifts the hue by `shift` (1 is the full circle); value and HSV saturation are unchanged."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    # compare channels by order: a compiler that computes a channel twice may round it differently, so that no channel
    # equals the maximum
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
    hue = sextant + 6 * shift
    # channel(n) = value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + hue) mod 6: the inverse without its six branches
    phase = jnp.mod(jnp.array([5.0, 3.0, 1.0], image.dtype) + hue[..., None], 6)
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(phase, 4 - phase), 0, 1)


def adjust(image: Image, factors: Float[Array, "4"], order: Int[Array, "4"]) -> Image:
    """Applies brightness, contrast, saturation and hue, with `factors` in this numbering, in the given order.

    Under `vmap` a switch would run all 24 orders. Three of the operations are blends, and a blend by the factor 1 is
    the identity. Any order is therefore three blends (by 1 for those after the hue), the hue shift, and three blends
    (by 1 for those before it).
    """
    hue_index = jnp.argmax(order == HUE)
    slots = jnp.arange(3)
    blends = order[slots + (slots >= hue_index)]
    before = jnp.where(slots < hue_index, factors[blends], 1)
    after = jnp.where(slots < hue_index, 1, factors[blends])
    for slot in range(3):
        image = blend(image, before[slot], blends[slot])
    image = shift_hue(image, factors[HUE])
    for slot in range(3):
        image = blend(image, after[slot], blends[slot])
    return image


def random_jitter(key: Array, image: Image, strengths: tuple[float, ...], probability: float) -> Image:
    """ColorJitter with the given strengths, in random order, with the given probability.

    Factors of brightness, contrast and saturation are uniform in 1 +- strength (not below 0), the shift of the hue in
    +-strength.
    """
    factors_key, order_key, choice_key = jax.random.split(key, 3)
    spread = jnp.asarray(strengths, image.dtype)
    low = jnp.where(jnp.arange(4) == HUE, -spread, jnp.maximum(1 - spread, 0))
    high = jnp.where(jnp.arange(4) == HUE, spread, 1 + spread)
    factors = jax.random.uniform(factors_key, (4,), image.dtype) * (high - low) + low
    # the ranks of four uniform numbers are a random permutation, cheaper than a shuffle under vmap
    order = jnp.argsort(jax.random.uniform(order_key, (4,)))
    return jnp.where(jax.random.bernoulli(choice_key, probability), adjust(image, factors, order), image)


def random_grayscale(key: Array, image: Image, probability: float) -> Image:
    """The luma in all three channels, with the given probability."""
    return jnp.where(jax.random.bernoulli(key, probability), luma(image)[..., None], image)
