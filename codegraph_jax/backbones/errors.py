"""Errors of backbones and of their weights."""

from codegraph_jax.core.errors import UserError


class WeightsError(ValueError):
    """A checkpoint cannot be found or read, or does not match the preset."""


class UnreachableError(WeightsError):
    """A source of weights is not available; another network may be used instead.

    Attributes:
        reason: the problem in a few words, without the advice of the message.
    """

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason or message


class BackboneError(UserError):
    """A backbone of the caller gives output of a wrong form."""
