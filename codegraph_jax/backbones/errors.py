"""Errors of backbones and of their weights."""

from codegraph_jax.core.errors import UserError


class WeightsError(ValueError):
    """A checkpoint cannot be found or read, or does not match the preset."""


class BackboneError(UserError):
    """A backbone of the caller gives output of a wrong form."""
