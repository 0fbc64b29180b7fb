"""Commands in processes of their own, forked from one that has imported what they import.

A new Python needs seconds for torch, a fork none; what is killed, and what it leaves, is the same.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "torch.utils.tensorboard", "sklearn.linear_model", "timm", "lightning_fabric",
     "diffusers.models.autoencoders.vq_model", "genkt.cli.app", "genkt.cli.main",
     "genkt.settings.yaml_files", "genkt.synthesis.prepare_synthesis",
     "genkt.transfers.run_transfer"]
)  # fmt: skip


def nothing() -> None:
    """No change."""


class Command:
    """``genkt WORDS`` at work, leader of a session; it offers what ``subprocess.Popen`` does.

    Args:
        cwd: where it runs.
        env: what its environment has beside that of this process.
        before: called in it before the command; a function of a module.
        main: takes the words; None: genkt's.
    """

    def __init__(
        self, words: Sequence[str], *, cwd: Path | None = None,
        env: Mapping[str, str] | None = None, before: Callable[[], None] = nothing,
        main: Callable[[list[str]], int] | None = None,
    ) -> None:  # fmt: skip
        self._files = Path(tempfile.mkdtemp(prefix="forked "))
        weakref.finalize(self, shutil.rmtree, self._files, ignore_errors=True)
        given = (list(words), self._files, cwd, {**os.environ, **(env or {})}, before, main)
        self._process = CONTEXT.Process(target=_command, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus a signal; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send one to the process alone."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = 600) -> int:
        """Its exit code, once it has ended."""
        assert wait([self._process.sentinel], timeout), "it does not end"
        self._process.join()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """What it has printed on standard output and standard error, once it has ended."""
        self.wait(timeout)
        out, err = (
            path.read_text("utf-8", "replace") if path.exists() else ""
            for path in (self._files / "out", self._files / "err")
        )
        return out, err


def until(condition: Callable[[], Any], process: Command, pause: float = 0.005) -> None:
    """Wait for something that a process does before it ends."""
    deadline = time.monotonic() + 600
    while not condition():
        assert process.returncode is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, "it does not come so far"
        time.sleep(pause)


def _command(
    words: list[str], files: Path, cwd: Path | None, env: dict[str, str],
    before: Callable[[], None], main: Callable[[list[str]], int] | None,
) -> None:  # fmt: skip
    """In the fork: as ``python -m genkt`` in the foreground of a shell."""
    import genkt.__main__
    from genkt.cli.main import main as of_genkt

    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd or os.getcwd())
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        handle = os.open(files / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, stream.fileno())
        os.close(handle)
    sys.argv = ["genkt", *words]
    sys.modules["__main__"] = genkt.__main__  # which processes that it starts import
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]  # it is nobody's worker
    multiprocessing.set_start_method(None, force=True)
    before()
    sys.exit((main or of_genkt)(words))
