"""Trains the missing arms or candidates of a comparison in parallel."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from genkt.comparison.arm_task import ArmTask, differences
from genkt.comparison.watch_arms import Watch
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import ExecutorSettings
from genkt.files import discard, number, read_or_forget, read_signed, write_signed
from genkt.generative.generator import load_generator
from genkt.io import clear_dead_temporaries, reading
from genkt.report.compare.compare_data import Work
from genkt.types import UserError

_WORK = "work.json"


def changed_tasks(tasks: Sequence[ArmTask], *, overwrite: bool) -> dict[str, list[str]]:
    """Existing arms with other settings or another generator -> what differs.

    Raises:
        UserError: there are some, and overwrite is false.
    """
    known: dict[str, str] = {}
    found = {}
    for task in tasks:
        used = task.config.generators if task.folder.is_dir() else []
        for name in used:
            if name not in known:
                known[name] = load_generator(name).fingerprint()
        if lines := differences(task, {name: known[name] for name in used}):
            found[task.name] = lines
    if found and not overwrite:
        raise UserError(_told(found))
    return found


def _told(changed: dict[str, list[str]]) -> str:
    lines = [
        "some arms exist with other settings; overwrite=true trains these again, another "
        "out= keeps them"
    ]
    return "\n".join([*lines, *(f"arm {name}: {'; '.join(why)}" for name, why in changed.items())])


def finish(
    tasks: Sequence[ArmTask], changed: Mapping[str, list[str]], executor: ExecutorSettings,
    what: str,
) -> None:  # fmt: skip
    """Run the missing tasks; an arm whose process dies repeatedly fails, the others continue.

    Args:
        what: kind of tasks: "arms" or "candidates".
    """
    tasks = _forgotten(tasks, changed)
    missing = [task for task in tasks if not task.is_done()]
    started = time.monotonic()
    try:
        with Watch(tasks, what), _one_thread():
            _run(tasks, executor, what)
    finally:
        if ended := [task for task in missing if task.is_done()]:
            _note(Path(ended[0].home), time.monotonic() - started, ended)


def _run(tasks: Sequence[ArmTask], executor: ExecutorSettings, what: str) -> None:
    on_gpu = any(task.config.device != "cpu" for task in tasks)
    while waiting := [task for task in tasks if not task.is_done()]:
        try:
            run_tasks(waiting, executor, description=what, on_gpu=on_gpu, progress=False)
        except UserError as error:
            reason = "; ".join(str(error).splitlines())
            dead = [task for task in waiting if reason.startswith(f"{task.name}:")]
            if not dead:
                raise
            dead[0].end(reason, 0.0)


def _note(home: Path, wall_seconds: float, tasks: Sequence[ArmTask]) -> None:
    """Add the time and the amount of work to the notes of earlier starts."""
    before, work = work_in(home), sum(task.seconds() for task in tasks)
    after = Work(before.wall_seconds + wall_seconds, before.task_seconds + work)
    write_signed(home / _WORK, asdict(after))


def work_in(home: Path) -> Work:
    """The notes of all starts of a comparison in a folder.

    Lost ones are begun anew at once: the start that loses them may train nothing more.
    """
    path, expected = home / _WORK, "what a comparison took"
    clear_dead_temporaries(home, of=_WORK)  # a start after the last arm ended writes no notes

    def read() -> Work:
        saved = read_signed(path, expected, unsigned=("wall_seconds", "task_seconds"))
        with reading(path, expected):
            return Work(number(saved["wall_seconds"]), number(saved["task_seconds"]))

    found = read_or_forget(path, read, "its times count anew") if path.exists() else None
    if found is None:
        found = Work(0.0, 0.0)
        if home.is_dir():
            write_signed(path, asdict(found))
    return found


def _forgotten(tasks: Sequence[ArmTask], changed: Mapping[str, list[str]]) -> list[ArmTask]:
    """The tasks, longest first; outdated outcomes are removed."""
    found = []
    for task in tasks:
        if task.name in changed:
            task = replace(task, config=replace(task.config, overwrite=True))
        if task.name in changed or not task.is_kept():
            discard(task.outcome)
        found.append(task)
    return sorted(found, key=lambda task: -task.size)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started in this block use one core each, as there is one per core."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
