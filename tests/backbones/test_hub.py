"""A hub that does not respond delays a run by three seconds at most and is reported in one sentence."""

import time

import pytest

from codegraph_jax.backbones import hub
from codegraph_jax.backbones.errors import UnreachableError
from codegraph_jax.backbones.preset_backbone import load_backbone
from codegraph_jax.backbones.presets import PRESETS, HubSource
from codegraph_jax.config import BackboneConfig, BankConfig, Config, FeatureConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.detector import CoDeGraph
from tests.support.tiny_backbones import GOLDEN


class Session:
    """A client whose requests fail, time out, or get a response."""

    def __init__(self, answer):
        self.answer, self.asked = answer, 0

    def head(self, address, timeout):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        time.sleep(self.answer)


@pytest.fixture
def network(monkeypatch, tmp_path):
    """Sets the response to a request: an error, or a delay in seconds."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def answer(how):
        session = Session(how)
        monkeypatch.setattr("huggingface_hub.get_session", lambda: session)
        return session

    return answer


def test_silent_hub_times_out(network, monkeypatch):
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.1)
    network(5)
    began = time.monotonic()
    assert "does not answer within 0.1 s" in hub.why_unreachable()
    assert time.monotonic() - began < 2


def test_without_a_network_the_client_of_the_hub_is_left_alone(network, caplog):
    source = PRESETS["dinov2-base"].source
    assert isinstance(source, HubSource)
    session = network(OSError("no route"))
    with pytest.raises(UnreachableError) as error:
        hub.open_hub(source)
    assert session.asked == 1 and not caplog.records
    assert error.value.reason == "huggingface.co cannot be reached: no route"


def test_settings_are_checked_before_the_hub_is_asked(network):
    session = network(OSError("no route"))
    for fields in ({"blocks": (99,)}, {"image_size": 50}, {"activation": "gelu", "name": "dinov2-giant"}):
        with pytest.raises(ConfigError, match=r"config\.backbone\.(blocks|image_size|activation)"):
            load_backbone(BackboneConfig(**{"name": "dinov2-base", **fields}))
    weighted, bank = FeatureConfig(aggregation="similarity"), BankConfig(save="x.safetensors")
    with pytest.raises(ConfigError, match=r"config\.features\.aggregation: a bank compares plain means"):
        CoDeGraph(Config(backbone=BackboneConfig(name="dinov2-base"), features=weighted, bank=bank))
    assert not session.asked


def test_weights_in_the_cache_need_no_network(network, tmp_path):
    source = PRESETS["dinov2-base"].source
    session = network(OSError("no route"))
    snapshot = tmp_path / "hub" / "models--facebook--dinov2-base" / "snapshots" / source.revision
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes((GOLDEN / "dinov2.safetensors").read_bytes())
    assert hub.open_hub(source).readers, "the result of `hf download` without config.json"
    assert not session.asked
