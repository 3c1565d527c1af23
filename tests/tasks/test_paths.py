"""A message about a missing or unsuitable path names the nearest existing one."""

from pathlib import Path

import pytest

from codegraph_jax.config import DataConfig
from codegraph_jax.core.files import Rounded, write_csv
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.tasks.paths import require_bank, require_exists
from codegraph_jax.tasks.sets import read_categories


@pytest.mark.parametrize(
    "typed,meant",
    [
        ("photos/boltz", "photos/bolts"),
        ("photos/BOLTS/", "photos/bolts"),
        ("phtos/bolts", "photos"),
        ("Photos/bolts", "photos"),
        ("photo", "photos"),
    ],
)
def test_the_nearest_place_is_named(typed, meant, tmp_path, monkeypatch):
    (tmp_path / "photos" / "bolts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for place, near in ((typed, meant), (str(tmp_path / typed), str(tmp_path / meant))):
        with pytest.raises(ConfigError, match=f"does not exist; did you mean '{near}'"):
            require_exists("config.data.root", place)
        with pytest.raises(ConfigError, match="config.data.root: .* does not exist"):
            read_categories(DataConfig(root=place), tmp_path)


@pytest.mark.parametrize("place", ["/nowhere-of-this-name/x", "a\0b", ""])
def test_nothing_is_guessed_where_nothing_is_near(place):
    with pytest.raises(ConfigError, match="does not exist$"):
        require_exists("config.data.root", place or "qqqqqqqq")


def test_a_directory_is_not_a_bank(tmp_path):
    with pytest.raises(ConfigError, match="is a directory; give the .safetensors file"):
        require_bank(str(tmp_path))
    (tmp_path / "parts.safetensors").touch()
    with pytest.raises(ConfigError, match="is a directory; did you mean .*parts.safetensors"):
        require_bank(str(tmp_path))
    with pytest.raises(ConfigError, match="does not exist; did you mean .*parts.safetensors"):
        require_bank(str(tmp_path / "part.safetensors"))
    with pytest.raises(ConfigError, match="is empty"):
        require_bank("")
    require_bank(str(tmp_path / "parts.safetensors"))


def test_excel_with_decimal_commas_shows_columns_numbers_and_umlauts(tmp_path):
    row = {"path": "Prüfling 1.5.png", "category": "1.5", "score": Rounded("0.450000"), "p": 1.2e-05, "label": 1}
    write_csv(tmp_path / "t.csv", [row], [*row], "excel")
    raw = Path(tmp_path / "t.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    heading, cells = raw.decode("utf-8-sig").splitlines()
    assert heading == "path;category;score;p;label"
    assert cells == "Prüfling 1.5.png;1.5;0,450000;1,2e-05;1"
