"""What recurs in images of a product, known by what it looks like, and what it is taken for [ours]."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int8

from codegraph_jax.consistency.signature import Signature

Verdict = Literal["defect", "variant", "undecided"]
"""Whether what recurs is a defect or a harmless variant of good parts."""
LONGEST_NAME = 200
ALIKE, ENOUGH = 0.25, 0.1
"""Images show the same product where a tenth of them are as near to its mean as all but a quarter of its own were.
Measured on nine products, each against every other: none is taken for another."""


@dataclass(frozen=True)
class Product:
    """What photographs of one product have in common, so that verdicts on it are not applied to another.

    Attributes:
        mean: direction of the mean image feature, as integers [d].
        limit: cosine between it and an image's feature that most images of the product reach.
    """

    mean: Int8[np.ndarray, " d"]
    limit: float

    @classmethod
    def of(cls, image_features: Float[np.ndarray, "n d"]) -> "Product":
        """The product that n images show."""
        mean = _unit(image_features).mean(axis=0)
        found = np.round(mean / max(float(np.abs(mean).max()), 1e-12) * np.iinfo(np.int8).max).astype(np.int8)
        return cls(found, float(np.quantile(cls(found, 0.0)._cosines(image_features), ALIKE)))

    def fits(self, image_features: Float[np.ndarray, "n d"]) -> bool:
        """Whether n images show this product."""
        if image_features.shape[1] != len(self.mean):
            return False
        return bool((self._cosines(image_features) >= self.limit).mean() >= ENOUGH)

    def _cosines(self, image_features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        return _unit(image_features) @ _unit(self.mean.astype(np.float64)[None])[0]

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return {"mean": base64.b64encode(self.mean.tobytes()).decode("ascii"), "limit": self.limit}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Product":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        return cls(np.frombuffer(base64.b64decode(values["mean"], validate=True), np.int8), float(values["limit"]))


@dataclass(frozen=True)
class Pattern:
    """What recurs in images of a product, and what it is taken for.

    Attributes:
        name: what people call it; may be empty.
        verdict: what it is taken for.
        signature: what it looks like.
        product: what it was seen on.
        shown: how many images of the last lot showed it.
        images: how many there were.
        single: it is known from one photo that a person has judged (`consistency.marks`), not from a group.
    """

    name: str
    verdict: Verdict
    signature: Signature
    product: Product
    shown: int
    images: int
    single: bool = False

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise ValueError(f"verdict: {self.verdict!r} is none of {', '.join(get_args(Verdict))}")
        if not isinstance(self.name, str) or len(self.name) > LONGEST_NAME:
            raise ValueError(f"name: is no text of at most {LONGEST_NAME} characters")

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "shown": self.shown,
            "images": self.images,
            "single": self.single,
            "signature": self.signature.as_json(),
            "product": self.product.as_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Pattern":
        """What `as_json` gave.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        return cls(
            values["name"],
            values["verdict"],
            Signature.from_json(values["signature"]),
            Product.from_json(values["product"]),
            int(values["shown"]),
            int(values["images"]),
            bool(values.get("single", False)),
        )


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
