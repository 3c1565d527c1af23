"""Damaged and hostile input for readers, which must return a value or raise the documented error.

`make test-all` spends a fixed budget. More of it:

    python -m pytest tests/fuzz --hypothesis-profile=large
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

BUDGET = settings(max_examples=3 * settings().max_examples, deadline=None, suppress_health_check=list(HealthCheck))
"""300 examples a test; the profile `large` (tests/conftest.py) has more. Read after the profile has been chosen."""

EDITS = st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=4)), max_size=12)
"""Edits: (place, bytes written there)."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""All values of JSON, and the numbers that only Python's reader accepts."""


def damaged(data: bytes, edits: list[tuple[int, bytes]], keep: int = 10, near: int = 0) -> bytes:
    """`data` with `edits` made and only `keep` tenths left; `near` limits the places to the first bytes."""
    changed = bytearray(data)
    for place, piece in edits:
        place %= min(len(data), near or len(data))
        changed[place : place + len(piece)] = piece
    return bytes(changed[: len(data) * keep // 10])


def positions(value, where=()):
    """Paths of everything inside a nest of dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*where, key)
        yield from positions(inner, (*where, key))
