"""A shallow backbone for tests of banks that need no other."""

from collections.abc import Iterator

import pytest

from tests.support.shallow import shallow_backbone


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    with shallow_backbone():
        yield
