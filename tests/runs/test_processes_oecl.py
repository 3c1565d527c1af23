"""Training in several real processes, connected over the loopback address."""

import json

import numpy as np
import pytest

from codegraph_jax.core.workdir import WorkdirError
from contrastive_jax import OECL, trainer
from contrastive_jax.data.sources import read_run_data
from tests.support.processes import ended, free_port, require_that_a_loss_ends_both, start_python
from tests.support.training_worker import config, exactly


def launch(workdir, *words):
    """Two processes of two devices each; `words` are process 1's own."""
    port = free_port()
    command = ("-m", "tests.support.training_worker", port, 2)
    return [start_python(*command, k, workdir, *(words if k else ())) for k in range(2)]


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return np.array([[line["loss"], line["normal_norm"], line["oe_norm"]] for line in lines if line["kind"] == "train"])


def assert_trained_as_one(workdir, alone):
    np.testing.assert_allclose(losses(workdir), losses(alone), rtol=1e-7)
    written, want = (
        np.genfromtxt(home / "scores.csv", delimiter=",", names=True, dtype=None, encoding=None)["clean"]
        for home in (workdir, alone)
    )
    np.testing.assert_allclose(written, want, rtol=1e-5)
    # a single process can read the checkpoint of several, in float32
    images = read_run_data(config()).test.images
    np.testing.assert_allclose(OECL.load(workdir).scores(images)["clean"], written, rtol=1e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, quick_training):
    home = tmp_path_factory.mktemp("alone")
    with exactly():
        trainer.train(config(), home)
    return home


@pytest.mark.slow
def test_processes_train_as_one(tmp_path, alone):
    first, second = (ended(process, status=0).stdout for process in launch(tmp_path / "run"))
    assert ", by class" in first and not [line for line in second.splitlines() if line and "Gloo" not in line]
    assert_trained_as_one(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other_and_the_run_resumes_from_the_checkpoint(tmp_path, alone, victim, capsys):
    """Process 1 stops after the first of two checkpoints; two processes resume, or one."""
    require_that_a_loss_ends_both(launch(tmp_path / "run", "stop"), victim, speaker=1)
    assert not (tmp_path / "run" / "results.json").exists()
    if victim == 0:
        said, _ = (ended(process, status=0).stdout for process in launch(tmp_path / "run"))
    else:
        with exactly():
            trainer.train(config(), tmp_path / "run")
        said = capsys.readouterr().out
    assert "resuming after epoch 1 of 2" in said
    assert_trained_as_one(tmp_path / "run", alone)


def test_a_workdir_that_is_not_shared_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "MANIFEST_SECONDS", 0)
    with pytest.raises(WorkdirError, match="on a shared disk"):
        trainer._wait_for_manifest(tmp_path)


@pytest.mark.slow
def test_a_workdir_of_another_run_ends_both(tmp_path):
    held = tmp_path / "run"
    held.mkdir()
    (held / "manifest.json").write_text(json.dumps({"config": {}, "data": "other"}))
    for process in launch(held):
        run = ended(process)
        assert run.returncode != 0
        assert "holds a run with other settings or data" in run.stderr
