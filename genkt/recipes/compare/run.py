"""The comparison itself: arms side by side in processes, then one table of all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from genkt.execution.ranks import launched
from genkt.execution.run import run_tasks
from genkt.generative.generator import load_generator
from genkt.recipes.compare.collect import read_arm, warnings
from genkt.recipes.compare.config import CompareConfig
from genkt.recipes.compare.plan import ArmSettings, Plan, make_plan
from genkt.recipes.compare.progress import Watch
from genkt.recipes.compare.task import ARMS, ArmTask, differences
from genkt.recipes.generated import needed_generators
from genkt.recipes.present import versions
from genkt.report.compare import build_comparison
from genkt.report.compare_data import CompareData
from genkt.report.compare_text import text_table
from genkt.report.summary import aligned
from genkt.types import UserError


@dataclass(frozen=True)
class CompareResult:
    """What a comparison gives back.

    Args:
        data: every number of compare.json, as objects.
        out: the folder: ``compare.html``, ``compare.json``, ``compare.md``, ``arms/NAME/``.
    """

    data: CompareData
    out: Path


def run_compare(
    config: CompareConfig, settings: Sequence[ArmSettings], *, command: str, words: Sequence[str]
) -> CompareResult:
    """Train every arm that is not there yet, then write the table, the page and the numbers.

    Args:
        config: the comparison's own settings.
        settings: every arm's.
        command: how to repeat it.  words: settings that all arms share, for the report.

    Raises:
        UserError: arms that cannot be compared, a folder that holds something else, or no arm
            that ended well.
    """
    plan, changed = _checked(config, settings)
    home = Path(config.out)
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / ".lock", timeout=0):
            _run(config, _forgotten(plan, changed))
            data = _data(config, plan, command, words)
            build_comparison(data, home)
    except Timeout:
        raise UserError(f"out={home}: another genkt compare is at work there") from None
    return CompareResult(data, home)


def planned(config: CompareConfig, settings: Sequence[ArmSettings]) -> str:
    """What ``run_compare`` would do with each arm; nothing is written.

    Raises:
        UserError: what would stop it at its start.
    """
    plan, changed = _checked(config, settings)
    first = plan.tasks[0].config
    total = len(plan.tasks) * first.draws
    rows = [["arm", "students there", "settings"]]
    for task, arm in zip(plan.tasks, plan.arms, strict=True):
        there = 0 if task.name in changed else task.num_finished()
        rows.append([task.name, f"{there} of {first.draws}", " ".join(arm.words)])
    lines = [f"dry run: {len(plan.tasks)} arms x {first.draws} draws = {total} students; nothing "
             "was written", "", *aligned(rows)]  # fmt: skip
    return "\n".join(lines)


def _checked(
    config: CompareConfig, settings: Sequence[ArmSettings]
) -> tuple[Plan, dict[str, list[str]]]:
    """The plan, and the arms that are there with other settings."""
    home = Path(config.out)
    plan = make_plan(config.study, settings, home)
    if launched().world_size > 1:
        raise UserError("genkt compare shares its arms between processes itself: start it once")
    _check_folder(home)
    changed = _changed(plan)
    if changed and not config.overwrite:
        raise UserError(_told(changed))
    return plan, changed


def _check_folder(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise UserError(f"out={home}: expected a folder, it is a file")
    if home.is_dir() and any(home.iterdir()) and not (home / ARMS).is_dir():
        raise UserError(f"out={home}: the folder is not empty and holds no comparison")


def _changed(plan: Plan) -> dict[str, list[str]]:
    """Arms that are there with other settings or of another generator -> what differs."""
    known: dict[str, str] = {}
    found = {}
    for task in plan.tasks:
        used = needed_generators(task.config) if task.folder.is_dir() else []
        for name in used:
            if name not in known:
                known[name] = load_generator(name).fingerprint()
        if lines := differences(task, {name: known[name] for name in used}):
            found[task.name] = lines
    return found


def _told(changed: dict[str, list[str]]) -> str:
    lines = [
        "some arms are there with other settings; overwrite=true trains these anew, another out= "
        "keeps them"
    ]
    return "\n".join([*lines, *(f"arm {name}: {'; '.join(why)}" for name, why in changed.items())])


def _forgotten(plan: Plan, changed: dict[str, list[str]]) -> list[ArmTask]:
    """The tasks, longest first; outcomes that no longer hold are removed."""
    tasks = []
    for task in plan.tasks:
        if task.name in changed:
            task = replace(task, config=replace(task.config, overwrite=True))
        there = (task.folder / "report.json").is_file() and task.name not in changed
        if task.failure() is not None or not there:
            task.outcome.unlink(missing_ok=True)
        tasks.append(task)
    return sorted(tasks, key=lambda task: -task.size)


def _run(config: CompareConfig, tasks: Sequence[ArmTask]) -> None:
    """Run what is not done; an arm whose process dies again and again ends, the others go on."""
    on_gpu = any(task.config.device != "cpu" for task in tasks)
    with Watch(tasks), _one_thread():
        while waiting := [task for task in tasks if not task.is_done()]:
            try:
                run_tasks(
                    waiting, config.executor, description="arms", on_gpu=on_gpu, progress=False
                )
            except UserError as error:
                reason = "; ".join(str(error).splitlines())
                dead = [task for task in waiting if reason.startswith(f"{task.name}:")]
                if not dead:
                    raise
                dead[0].end(reason, 0.0)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started meanwhile compute on one core each: there are as many as cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _data(config: CompareConfig, plan: Plan, command: str, words: Sequence[str]) -> CompareData:
    study = config.study
    found = [read_arm(task, arm) for task, arm in zip(plan.tasks, plan.arms, strict=True)]
    arms = [arm for arm in found if arm is not None]
    failed = [(task.name, reason) for task in plan.tasks if (reason := task.failure())]
    if not arms:
        lines = [f"arm {name}: {reason}" for name, reason in failed]
        raise UserError("\n".join(["no arm has ended well", *lines]))
    first = plan.tasks[0].config
    return CompareData(
        title=study.title,
        study=study.name,
        arms=arms,
        baseline=study.baseline,
        reference=study.reference,
        pairs=[(a, b) for a, b in study.pairs],
        sweeps=plan.sweeps,
        failed=failed,
        words=words,
        command=command,
        versions=versions(),
        seed=first.seed,
        num_draws=first.draws,
        notes=warnings(plan.tasks, arms),
    )


def describe(result: CompareResult) -> str:
    """What is printed at the end: the table, what went wrong, where the report is."""
    lines = [text_table(result.data), ""]
    lines += [f"note: {note}" for note in result.data.notes]
    return "\n".join([*lines, f"report: {result.out / 'compare.html'}"])
