"""Recurring patterns of a product, which are recognised in other sets by their signatures [ours]."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int8

from codegraph_jax.consistency.signature import Signature
from codegraph_jax.core.json_fields import JsonFields

PatternVerdict = Literal["defect", "variant", "undecided"]
"""Verdict on a pattern: a defect, a harmless variant of good parts, or undecided."""
Origin = Literal["group", "photo"]
MAX_NAME_LENGTH = 200
LIMIT_QUANTILE, MIN_PRODUCT_SHARE = 0.25, 0.1
"""Images show a product if a tenth of them are as similar to its mean as three quarters of its own images. Measured on
nine products, each against all others: no two are confused."""


@dataclass(frozen=True)
class Product:
    """Mean image feature of a product, so that verdicts are not applied to another product.

    The mean is a direction in integers; most images of the product exceed the limit of the cosine with it.
    """

    mean: Int8[np.ndarray, " d"]
    limit: float

    @classmethod
    def of(cls, image_features: Float[np.ndarray, "n d"]) -> "Product":
        """The product of n images."""
        mean = _unit(image_features).mean(axis=0)
        quantised = np.round(mean / max(float(np.abs(mean).max()), 1e-12) * np.iinfo(np.int8).max).astype(np.int8)
        return cls(quantised, float(np.quantile(cls(quantised, 0.0)._cosines(image_features), LIMIT_QUANTILE)))

    def fits(self, image_features: Float[np.ndarray, "n d"]) -> bool:
        """Whether n images show this product."""
        if image_features.shape[1] != len(self.mean):
            return False
        return bool((self._cosines(image_features) >= self.limit).mean() >= MIN_PRODUCT_SHARE)

    def _cosines(self, image_features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        return _unit(image_features) @ _unit(self.mean.astype(np.float64)[None])[0]

    def as_json(self) -> dict[str, Any]:
        """Values for JSON; `from_json` reads them."""
        return {"mean": base64.b64encode(self.mean.tobytes()).decode("ascii"), "limit": self.limit}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Product":
        """Reads the values of `as_json`; malformed ones raise KeyError, TypeError or ValueError."""
        return cls(np.frombuffer(base64.b64decode(values["mean"], validate=True), np.int8), float(values["limit"]))


@dataclass(frozen=True)
class Pattern(JsonFields):
    """A recurring pattern with a verdict.

    Attributes:
        name: name given by a person; may be empty.
        verdict: the verdict.
        signature: appearance.
        product: product on which it was found.
        member_count: number of images of the last batch that show it.
        image_count: number of images of the last batch; 0: there was none.
        origin: `group`, or `photo` if it comes from a single answered photo (`consistency.marks`).
    """

    name: str
    verdict: PatternVerdict
    signature: Signature
    product: Product
    member_count: int
    image_count: int
    origin: Origin = "group"

    def __post_init__(self) -> None:
        self.require("name", "verdict", "origin")
        if len(self.name) > MAX_NAME_LENGTH:
            raise ValueError(f"name: is not a text of at most {MAX_NAME_LENGTH} characters")


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
