"""A bank of a small drawn set, and photos of further parts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.line import sending, targets
from codegraph_jax.line.app import create_app
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.settings import WebConfig
from tests.line.receiver import Receiver
from tests.support.networks import shallow_backbone, small_bank

SET_SIZE, NEW_COUNT = 14, 12


@pytest.fixture(scope="package", autouse=True)
def shallow() -> Iterator[None]:
    with shallow_backbone():
        yield


@pytest.fixture(scope="package")
def bank(shallow) -> ReferenceBank:
    return small_bank(list(draw_set(SET_SIZE, 56, 3, 0.2, (0.3,)).images))


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """Files of parts that are not in the bank."""
    home = tmp_path_factory.mktemp("parts")
    paths = []
    for number, image in enumerate(draw_set(NEW_COUNT, 64, 77, 0.2, ()).images):
        paths.append(home / f"{number:02d}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / LEDGER_FILE)
    yield opened
    opened.close()


@pytest.fixture
def inspector(bank, ledger, tmp_path) -> Inspector:
    return Inspector(bank, ledger, tmp_path)


def client_of(inspector: Inspector, token: str = "", **settings: Any) -> TestClient:
    """A client of a line's server with these settings."""
    return TestClient(create_app(inspector, WebConfig(**settings), token), base_url="http://127.0.0.1:8000")


@pytest.fixture
def client(inspector):
    with client_of(inspector) as opened:
        yield opened


def marked_copy(photo: Path, copy: Path) -> Path:
    """Copies a photo and makes the copy anomalous by a bright square."""
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB")).copy()
    pixels[8:28, 8:28] = (255, 0, 255)
    Image.fromarray(pixels).save(copy)
    return copy


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(sending, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sending, "MAX_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(sending, "LAST_SECONDS", 0.5)
    monkeypatch.setattr(targets, "RESPONSE_SECONDS", 2.0)
