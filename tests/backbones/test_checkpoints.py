"""Sources of weights: files, shards, directories, the hub's cache; and the errors if they cannot be read."""

import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codegraph_jax.backbones.checkpoints import find_checkpoint
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.presets import PRESETS, HubSource
from codegraph_jax.backbones.safetensors_files import open_directory, open_file
from tests.support.processes import run_python
from tests.support.tiny_backbones import GOLDEN

DINOV2 = PRESETS["dinov2-small"]


def _write(path: Path, **tensors: np.ndarray) -> Path:
    save_file(tensors, path)
    return path


def _shard(folder: Path) -> Path:
    _write(folder / "a.safetensors", x=np.ones(2, np.float32))
    _write(folder / "b.safetensors", y=np.zeros(3, np.float32))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    return index


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_float_type_is_read(tmp_path: Path, dtype: type) -> None:
    values = np.array([1.5, -0.375, 1024.0], dtype)
    read = open_file(_write(tmp_path / "w.safetensors", x=values)).readers["x"]()
    np.testing.assert_array_equal(read.astype(np.float32), [1.5, -0.375, 1024.0])


def test_the_origin_names_file_and_hash(tmp_path: Path) -> None:
    file = _write(tmp_path / "w.safetensors", x=np.ones(2))
    origin = open_file(file).origin
    assert str(file) in origin
    file.write_bytes(_write(tmp_path / "v.safetensors", x=np.zeros(2)).read_bytes())
    assert open_file(file).origin != origin


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    index = _shard(tmp_path)
    assert set(open_file(index).readers) == {"x", "y"}
    assert set(open_directory(tmp_path).readers) == {"x", "y"}


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = _shard(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"b\.safetensors is missing"):
        open_file(index)


@pytest.mark.parametrize("shard", ["../a.safetensors", "/etc/hostname", "..", "", 3])
def test_shards_stay_in_their_directory(tmp_path: Path, shard: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": shard}}))
    with pytest.raises(WeightsError, match="is outside the directory"):
        open_file(index)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "{"])
def test_a_damaged_index_is_an_error(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(WeightsError, match="is not an index of safetensors shards"):
        open_file(index)


def test_truncated_files_are_errors(tmp_path: Path) -> None:
    whole = (GOLDEN / "dinov2.safetensors").read_bytes()
    for size in (0, 4, 8, 100, 5000, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"cut\.safetensors: cannot be read"):
            open_file(cut)


def test_unsuitable_directories_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no \.safetensors file$"):
        open_directory(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin may run code"):
        open_directory(tmp_path)
    _write(tmp_path / "one.safetensors", x=np.ones(1))
    assert set(open_directory(tmp_path).readers) == {"x"}
    _write(tmp_path / "two.safetensors", y=np.ones(1))
    with pytest.raises(WeightsError, match="several"):
        open_directory(tmp_path)


def test_settings_come_from_the_file_beside(tmp_path: Path) -> None:
    file = _write(tmp_path / "model.safetensors", x=np.ones(1))
    assert open_file(file).settings == {}
    (tmp_path / "config.json").write_text('{"hidden_act": "gelu"}')
    assert open_file(file).settings == {"hidden_act": "gelu"}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json"):
        open_file(file)


def test_weights_are_a_directory_a_safetensors_file_or_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not a directory, a .safetensors file, or a Hugging Face id"):
        find_checkpoint(DINOV2, str(tmp_path / "weights.onnx"))
    for name in ("weights.pth", "weights.pt", "pytorch_model.bin", "last.ckpt"):
        with pytest.raises(WeightsError, match=f"{name}' may run code when read: convert to .safetensors first"):
            find_checkpoint(DINOV2, str(tmp_path / name))
    with pytest.raises(WeightsError, match="no such file"):
        find_checkpoint(DINOV2, str(tmp_path / "weights.safetensors"))
    assert find_checkpoint(DINOV2, str(GOLDEN / "dinov2.safetensors")).readers


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache and no hub."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_without_the_hub_the_error_shows_the_manual_download(offline: Path) -> None:
    with pytest.raises(WeightsError) as error:
        find_checkpoint(DINOV2)
    source = DINOV2.source
    assert isinstance(source, HubSource)
    assert source.address in str(error.value)
    assert "backbone.weights" in str(error.value)


class _Gate(BaseHTTPRequestHandler):
    """A hub that refuses gated files as Hugging Face's does, and records the tokens of requests."""

    tokens: ClassVar[list[str | None]] = []

    def do_HEAD(self) -> None:  # noqa: N802
        self.tokens.append(self.headers["Authorization"])
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to model is restricted. You must be authenticated to access it.")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def test_gated_weights_name_their_licence_and_print_no_token(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gate)
    Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "from codegraph_jax.backbones.checkpoints import find_checkpoint\n"
        "from codegraph_jax.backbones.presets import PRESETS\n"
        "find_checkpoint(PRESETS['dinov3-small'])"
    )
    secret = "hf_" + "s3cret" * 5
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": secret, "HF_HUB_OFFLINE": None}
    run = run_python("-c", code, status=1, **settings)
    server.shutdown()
    assert f"Bearer {secret}" in _Gate.tokens
    message = run.stderr.strip().splitlines()[-1]
    assert "accept its DINOv3 License" in message
    assert "https://huggingface.co/facebook/dinov3-vits16-pretrain-lvd1689m" in message
    assert "HF_TOKEN" in message
    assert secret not in run.stdout + run.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def _cache(cache: Path, repository: str, commit: str, branch: str = "") -> Path:
    folder = cache / ("models--" + repository.replace("/", "--"))
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    if branch:
        (folder / "refs").mkdir()
        (folder / "refs" / branch).write_text(commit)
    return snapshot


def test_weights_in_the_cache_are_used_without_the_hub(offline: Path) -> None:
    source = DINOV2.source
    assert isinstance(source, HubSource)
    snapshot = _cache(offline, source.repository, source.revision)
    shutil.copy(GOLDEN / "dinov2.safetensors", snapshot / "model.safetensors")
    (snapshot / "config.json").write_text('{"hidden_act": "gelu"}')
    found = find_checkpoint(DINOV2)
    assert source.revision in found.origin
    assert set(found.readers) == set(load_file(GOLDEN / "dinov2.safetensors"))
    assert found.settings == {"hidden_act": "gelu"}


def test_a_branch_is_recorded_as_the_commit_that_it_was(offline: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = _cache(offline, "someone/model", commit, "main")
    _write(snapshot / "model.safetensors", x=np.ones(1))
    assert commit in find_checkpoint(DINOV2, "someone/model").origin
    assert commit in find_checkpoint(DINOV2, f"someone/model@{commit}").origin
    with pytest.raises(WeightsError, match="someone/model@v2 cannot be fetched"):
        find_checkpoint(DINOV2, "someone/model@v2")
