"""The queue of the app: runs, one at a time, and lines, as child processes with the commands of a terminal."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from codegraph_jax.app.state import STATE_DIRECTORY, State
from codegraph_jax.report.result_files import MANIFEST

PROGRAM = (sys.executable, "-m", "codegraph_jax")
LINE = "line"
"""Kind of jobs that run until they are stopped, beside each other; jobs of other kinds run one after the other."""
UNDER_WAY = ("waiting", "running")
"""States of jobs that have not ended."""
GRACE_SECONDS = 15.0
"""Time that a process has to end after an interrupt."""
LOG_BYTES = 20_000
_ADDRESS = re.compile(r"listening on (http://\S+);")
_BAR = re.compile(r"^.*\r", re.MULTILINE)


def child_environment() -> dict[str, str]:
    """Environment variables of child processes, which import this package too."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class Jobs:
    """Starts the jobs of a `State`, and watches those that an earlier server has started.

    A job is a child process in a session of its own, so that the death of the server does not end it; the next server
    takes it over.
    """

    def __init__(self, state: State, results: Path):
        self.state, self.results = state, results
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._cancelled: list[Mapping[str, Any]] = []
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._logs = results / STATE_DIRECTORY / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Starts the thread that works on the queue."""
        self._thread.start()

    def stop(self) -> None:
        """Interrupts all jobs and waits until they have ended; unfinished runs can be resumed."""
        self._stopping = True
        self._wake.set()
        self._thread.join(2 * GRACE_SECONDS)
        running = self.state.jobs("running")
        for job in running:
            self._interrupt(job)
        for job in running:
            self._await_end(job)
            self._settle(job, "interrupted")

    def add(self, kind: str, run: str, arguments: Sequence[str]) -> int:
        """Adds a job to the queue; returns its number."""
        job = self.state.add_job(kind, run, arguments)
        self._wake.set()
        return job

    def cancel(self, run: str) -> None:
        """Ends the waiting and running jobs of a run, which can be resumed later."""
        for job in self.state.jobs(*UNDER_WAY):
            if job["run"] == run:
                self.state.change_job(job["id"], state="cancelled", ended=time.time())
                if job["state"] == "running":
                    self._cancelled.append(job)
                    self._interrupt(job)
                    threading.Thread(target=self._await_end, args=(job,), daemon=True).start()

    def log(self, job: int) -> str:
        """The end of the output of a job, without progress bars."""
        with suppress(OSError), self._log_path(job).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - LOG_BYTES))
            return _BAR.sub("", stream.read().decode("utf-8", "replace").replace("\r\n", "\n"))
        return ""

    def address(self, job: Mapping[str, Any]) -> str:
        """The address of a line's page; empty unless the line is running and ready."""
        found = _ADDRESS.search(self.log(job["id"])) if job["state"] == "running" else None
        return found[1] if found else ""

    def _log_path(self, job: int) -> Path:
        return self._logs / f"{job}.log"

    def _work(self) -> None:
        while not self._stopping:
            self._step()
            self._wake.wait(0.2)
            self._wake.clear()

    def _step(self) -> None:
        """Settles jobs that have ended, and starts those whose turn it is."""
        running = self.state.jobs("running")
        for job in running:
            if not self._is_alive(job):
                self._settle(job)
        self._cancelled = [job for job in self._cancelled if self._is_alive(job)]
        busy = any(job["kind"] != LINE and self._is_alive(job) for job in (*running, *self._cancelled))
        ending = {job["run"] for job in self._cancelled}
        for job in self.state.jobs("waiting"):
            if job["run"] not in ending and (job["kind"] == LINE or not busy):
                busy = busy or job["kind"] != LINE
                self._launch(job)

    def _launch(self, job: Mapping[str, Any]) -> None:
        with self._log_path(job["id"]).open("wb") as log:
            try:
                child = subprocess.Popen(
                    [*PROGRAM, *job["arguments"]],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                    env=child_environment(),
                )  # fmt: skip
                born = psutil.Process(child.pid).create_time()
            except (OSError, ValueError, psutil.Error) as error:
                self.state.change_job(job["id"], state="failed", message=str(error), ended=time.time())
                return
            self._children[job["id"]] = child
            self.state.change_job(job["id"], state="running", pid=child.pid, born=born)

    def _is_alive(self, job: Mapping[str, Any]) -> bool:
        if child := self._children.get(job["id"]):
            return child.poll() is None
        return self._process(job) is not None

    def _process(self, job: Mapping[str, Any]) -> psutil.Process | None:
        """The process of a job; None if it has ended, even if another process has its number now."""
        with suppress(psutil.Error, ValueError):
            process = psutil.Process(job["pid"])
            if process.create_time() == job["born"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _interrupt(self, job: Mapping[str, Any]) -> None:
        if process := self._process(job):
            with suppress(psutil.Error, OSError):
                process.send_signal(signal.SIGINT) if os.name == "posix" else process.terminate()

    def _await_end(self, job: Mapping[str, Any]) -> None:
        """Waits for a process that was interrupted, and kills it after a while."""
        if process := self._process(job):
            try:
                process.wait(GRACE_SECONDS)
            except psutil.TimeoutExpired:
                with suppress(psutil.Error):
                    process.kill()
        if child := self._children.get(job["id"]):
            child.wait(GRACE_SECONDS)

    def _settle(self, job: Mapping[str, Any], state_if_interrupted: str = "") -> None:
        """Records the end of a job."""
        child = self._children.pop(job["id"], None)
        status = child.poll() if child else None
        if job["kind"] == LINE:
            state = "stopped" if status == 0 or state_if_interrupted else "failed" if child else "interrupted"
        elif status == 0 or (child is None and self._has_finished(job)):
            state = "done"
        else:
            # an interrupt, or the end of an earlier server's process
            state = state_if_interrupted or ("failed" if status and status > 0 and status != 130 else "interrupted")
        message = _problem(self.log(job["id"])) if state == "failed" else ""
        self.state.change_job(job["id"], state=state, message=message, ended=time.time())

    def _has_finished(self, job: Mapping[str, Any]) -> bool:
        with suppress(OSError):
            return (self.results / job["run"] / MANIFEST).stat().st_mtime > job["created"]
        return False


def _problem(log: str) -> str:
    """The error at the end of an output."""
    lines = [line for line in log.splitlines() if line.strip()]
    found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return found[-1] if found else lines[-1] if lines else "the run has ended without a message"
