"""A command in a process of its own: forked from this one, or as ``python -m genkt``."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trials.sandbox import SHARED_MEMORY, confine

ROOT = Path(__file__).resolve().parents[2]
SECRET = "marker-of-a-secret-7f3a"
_SECONDS = 240.0
"""A command that takes longer hangs: each needs seconds, on a busy machine tens of them."""
_GRACE = 30.0
_LOOK = 0.01


def nothing() -> None:
    """No change."""


@dataclass(frozen=True)
class Job:
    """A command and where it runs.

    Args:
        words: behind ``genkt``.
        home: its folder, also HOME; its output lies beside it.
        env: changes of the environment; None as a value removes a variable.
        fresh: as a new Python instead of a fork of this one.
        setup: called in the child before the command, in ``home``.
        limit: seconds until it counts as hanging.
        end_with: the signal that is sent at the limit first, where a long run is no fault.
        confined: it can write in its home alone, where this process may see to it.
    """

    words: Sequence[str]
    home: Path
    env: Mapping[str, str | None] = field(default_factory=dict)
    fresh: bool = False
    setup: Callable[[], None] = nothing
    limit: float = _SECONDS
    end_with: signal.Signals | None = None
    confined: bool = True


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code, or minus a signal.  hung: killed at its limit.
        left: what outlived it: processes, files in shared memory.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False
    left: tuple[str, ...] = ()


class Running:
    """A command at work."""

    def __init__(self, job: Job, number: int = 0) -> None:
        self.job = job
        self._files = [job.home.parent / f"{name}-{number}" for name in ("out", "err")]
        for path in self._files:
            path.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(job, self._files)

    def signal(self, number: signal.Signals) -> None:
        """Send one to the process alone; nothing happens where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, at: float | None = None, act: Callable[[Running], None] | None = None) -> Ended:
        """Wait for its end.

        Args:
            at: seconds after the start, when ``act`` is called with this.
        """
        hung, told = False, False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            passed = time.monotonic() - self.started
            if pid:
                break
            if act is not None and at is not None and passed >= at:
                act(self)
                act = None
            if passed > self.job.limit and self.job.end_with and not told:
                self.signal(self.job.end_with)
                told = True
            if passed > self.job.limit + (_GRACE if told else 0):
                hung = True
                self.signal(signal.SIGKILL)
            time.sleep(_LOOK)
        left = self._outlived()
        out, err = (
            path.read_text("utf-8", "replace") if path.exists() else "" for path in self._files
        )
        return Ended(os.waitstatus_to_exitcode(status), out, err, passed, hung, left)

    def members(self) -> list[tuple[int, str]]:
        """The living processes of its session beside it: (pid, command line)."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if fields[0] not in "ZX" and int(fields[3]) == self.pid:
                        words = (entry / "cmdline").read_bytes().split(b"\0")
                        found.append((int(entry.name), b" ".join(words).decode("utf-8", "replace")))
        return found

    def _outlived(self) -> tuple[str, ...]:
        """What is still there some time after its end; processes are killed."""
        until = time.monotonic() + _GRACE
        while (members := self.members()) and time.monotonic() < until:
            time.sleep(10 * _LOOK)
        for pid, _ in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shared = []
        if self.job.confined:  # else others use it as well
            shared = [path.name for path in SHARED_MEMORY.iterdir()]
            for name in shared:
                (SHARED_MEMORY / name).unlink(missing_ok=True)
        return (
            *(f"process {words[:80]}" for _, words in members),
            *(f"shared memory {name}" for name in shared),
        )


def environment(job: Job) -> dict[str, str]:
    """What the command sees: nothing of the user's own settings."""
    env: dict[str, str | None] = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(job.home),
        "TMPDIR": str(job.home / "tmp"),
        "GENKT_CACHE": str(job.home / "cache"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "LANG": "C.UTF-8",
        "SECRET_TOKEN": SECRET,
        **job.env,
    }
    return {name: value for name, value in env.items() if value is not None}


def _be_child(job: Job, files: Sequence[Path]) -> None:
    """Never returns."""
    code = 99
    try:
        os.setsid()
        _hear_signals()
        if job.confined:
            confine(job.home.parent)
        os.chdir(job.home)
        _redirect(files)
        env = environment(job)
        os.environ.clear()
        os.environ.update(env)
        tempfile.tempdir = None  # else where this process has found it
        if job.fresh:
            job.setup()
            os.execve(sys.executable, [sys.executable, "-m", "genkt", *job.words], env)
        code = _command(job)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _hear_signals() -> None:
    """As in the foreground of a shell: one in its background has them ignored, by all it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def _redirect(files: Sequence[Path]) -> None:
    handles = [os.open(os.devnull, os.O_RDONLY)]
    handles += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in files]
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w"), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _command(job: Job) -> int:
    """As ``python -m genkt`` ends: exit handlers, threads, flushed streams."""
    import atexit
    import threading

    import genkt.__main__
    from genkt.cli.main import main

    sys.modules["__main__"] = genkt.__main__  # which processes that it spawns import
    sys.argv = ["genkt", *job.words]
    job.setup()
    try:
        code = main(list(job.words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
