"""Runs in several real processes, connected over the loopback address."""

import time

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.distributed import processes
from tests.support.process_worker import detector, stages
from tests.support.processes import ended, free_port, require_that_a_loss_ends_both, start_python

pytestmark = pytest.mark.usefixtures("shallow")


def launch(count, devices, backend, out, mode):
    port = free_port()
    command = ("-m", "tests.support.process_worker", port, count)
    return [start_python(*command, k, devices, backend, out, mode) for k in range(count)]


@pytest.mark.parametrize(
    "count,devices,backend",
    [
        (2, 1, "shard_map"),
        pytest.param(2, 3, "pmap", marks=pytest.mark.slow),
        pytest.param(4, 1, "shard_map", marks=pytest.mark.slow),
    ],
)
def test_processes_give_the_scores_of_one(tmp_path, count, devices, backend):
    started = launch(count, devices, backend, tmp_path, "once")
    alone = detector(devices=1)
    want = stages(alone)
    assert (want["tables"] != want["reduced"]).any(), "the removal must have an effect"
    for process in started:
        ended(process, status=0)
    for k in range(count):
        with np.load(tmp_path / f"{k}.npz") as got:
            for name, value in want.items():
                np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_one_process_ends_the_other_with_an_error(tmp_path, victim):
    require_that_a_loss_ends_both(launch(2, 1, "shard_map", tmp_path, "forever"), victim, victim)


@pytest.mark.parametrize(
    "flags,complaint",
    [
        (("", 2, 0), "--coordinator: is empty"),
        (("host", 2, 0), "neither HOST:PORT nor auto"),
        (("host:80", 2, 2), "--process-id: 2"),
    ],
)
def test_flags_that_do_not_fit_together_are_named(flags, complaint):
    with pytest.raises(ConfigError, match=complaint):
        processes.start(*flags)


def run_two(tmp_path, *flags, seconds=30, delay=0.0):
    """main.py in two processes; `flags` are process 1's own. Returns both when they have ended."""
    port = free_port()
    started = []
    for k in range(2):
        command = ["-m", "tests.support.main_worker", seconds, "--config=configs/folder.py"]
        command += [f"--config.backbone.{x}" for x in ("name=dinov2-small", "weights=random", "image_size=56")]
        command += [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process_id={k}"]
        command += [f"--config.data.root={tmp_path / 'a'}", f"--workdir={tmp_path / 'work'}", *(flags if k else ())]
        started.append(start_python(*command))
        time.sleep(delay)
    return [ended(process, seconds=100) for process in started]


def write_drawn_photos(root, names=("0.png", "1.png", "2.png")):
    root.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(draw_set(3, 56, 0, 0.0, ()).images[i]).save(root / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags,complaint",
    [
        (["--config.data.root={tmp}/names/a"], "process 1 differs from process 0 in the image names in category 'a'"),
        (["--config.data.root={tmp}/sizes/a"], "process 1 differs from process 0 in the image files (by their sizes)"),
        (["--config.data.root={tmp}/content/a"], "process 1 differs from process 0 in the content of image '1.png'"),
        (["--config.data.add={tmp}/a/0.png"], "process 1 differs from process 0 in the image names in category 'a'"),
        (["--config.data.root={tmp}/absent"], "does not exist"),
        (["--config.similarity.references=2"], "process 1 differs from process 0 in config.similarity.references"),
        (["--config.backbone.weights={tmp}/absent.safetensors"], "absent.safetensors: no such file"),
    ],
    ids=("names", "sizes", "content", "added", "no data", "settings", "no weights"),
)
def test_processes_that_differ_end_and_name_the_difference(tmp_path, flags, complaint):
    write_drawn_photos(tmp_path / "a")
    write_drawn_photos(tmp_path / "names" / "a", ("0.png", "1.png", "3.png"))
    write_drawn_photos(tmp_path / "sizes" / "a")
    with (tmp_path / "sizes" / "a" / "2.png").open("ab") as file:
        file.write(b"more")
    write_drawn_photos(tmp_path / "content" / "a")
    for name in ("1.png", "2.png"):
        written = bytearray((tmp_path / "content" / "a" / name).read_bytes())
        written[-1] ^= 1
        (tmp_path / "content" / "a" / name).write_bytes(written)
    for run in run_two(tmp_path, *(flag.format(tmp=tmp_path) for flag in flags)):
        assert run.returncode == 2, run.stderr[-2000:]
        assert complaint in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seconds,delay,status", [(60, 8.0, 0), (1, 8.0, 2)])
def test_late_process_times_out(tmp_path, seconds, delay, status):
    write_drawn_photos(tmp_path / "a")
    first, second = run_two(tmp_path, seconds=seconds, delay=delay)
    assert (first.returncode, second.returncode) == (status, status), (first.stderr, second.stderr)
    if status:
        assert "process 1 of 2 has not reported within 1 s" in first.stderr
        assert "process 0 was not reached within 1 s" in second.stderr
    else:
        assert (tmp_path / "work" / "manifest.json").is_file()
