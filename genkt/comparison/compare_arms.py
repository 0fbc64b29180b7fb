"""The comparison: trains the arms in parallel processes, then makes one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from genkt.comparison.arm_budget import with_searches
from genkt.comparison.arm_task import ARMS, LOGS, ArmTask
from genkt.comparison.collect_arms import read_arm, warnings, with_shared_images
from genkt.comparison.plan_arms import ArmSettings, ArmsPlan, make_plan
from genkt.comparison.train_arms import changed_tasks, finish, work_in
from genkt.comparison.tuning import FOLDER, JUDGED_ON, Candidate, candidates, choose, lost, told
from genkt.config.compare_settings import CompareConfig
from genkt.config.transfer_settings import TransferConfig
from genkt.disk import make_folder
from genkt.execution.ranks import launched
from genkt.io import contents
from genkt.locks import LOCKS, at_work
from genkt.report.compare.compare_data import CompareData, Tried, Work
from genkt.report.compare.compare_text import text_table
from genkt.report.compare.findings import findings
from genkt.report.compare.write_comparison import build_comparison
from genkt.report.transfer.summary import aligned
from genkt.runs.missing_parts import how_to_get
from genkt.runs.pool import load_splits
from genkt.runs.versions import versions
from genkt.types import UserError, counted


@dataclass(frozen=True)
class CompareResult:
    """The result of a comparison.

    Args:
        data: every number of compare.json, as objects.
        out: the folder: ``compare.html``, ``compare.json``, ``compare.md``, ``arms/NAME/``.
    """

    data: CompareData
    out: Path


def run_compare(
    config: CompareConfig, settings: Sequence[ArmSettings], *, command: str, words: Sequence[str]
) -> CompareResult:
    """Train every missing arm, then write the table, the page and the numbers.

    Args:
        config: the comparison's own settings.
        settings: every arm's.
        command: how to repeat it.  words: settings that all arms share, for the report.

    Raises:
        UserError: arms that cannot be compared, a folder with other content, or no arm that
        succeeded.
    """
    _checked(config, settings)
    home = Path(config.out)
    make_folder(home)
    try:
        with FileLock(home / ".lock", timeout=0), at_work(home, lambda: _check_folder(home)):
            tried = _tried(config, settings)
            settings = choose(settings, tried)
            plan, changed = _checked(config, settings)
            finish(plan.tasks, changed, config.executor, "arms")
            data = _data(config, plan, command, words, told(tried, settings))
            data = with_searches(data, tried, plan.tasks)
            build_comparison(findings(data), home)
    except Timeout:
        raise UserError(f"out={home}: another genkt compare is running there") from None
    return CompareResult(data, home)


def _tried(config: CompareConfig, settings: Sequence[ArmSettings]) -> list[Candidate]:
    """Every candidate of every arm, trained and judged."""
    tried, tasks = _candidates(config, settings)
    if tasks:
        _require_judges(tasks[0].config)
        changed = changed_tasks(tasks, overwrite=config.overwrite)
        finish(tasks, changed, config.executor, "candidates")
    return tried


def _candidates(
    config: CompareConfig, settings: Sequence[ArmSettings]
) -> tuple[list[Candidate], list[ArmTask]]:
    """Every candidate of every arm, and the transfers that judge them."""
    tuning = config.study.tuning
    tried = candidates(settings, Path(config.out), tuning.draws) if tuning else []
    return tried, list({candidate.task.name: candidate.task for candidate in tried}.values())


def _require_judges(config: TransferConfig) -> None:
    """Before hours of training, not after them. Raises: UserError."""
    if config.validation == "none":
        raise UserError.of(
            "validation", "images or cross, which study.tuning chooses settings on", "none"
        )
    splits = load_splits(config.data, config.seed)
    if config.validation == "images" and "validation" not in splits.parts:
        raise UserError(
            "study.tuning: settings are chosen on validation images, but the data have none: "
            f"{how_to_get('validation', config.data, splits)}, or validation=cross"
        )


def planned(config: CompareConfig, settings: Sequence[ArmSettings]) -> str:
    """A description of what ``run_compare`` would do with each arm; nothing is written.

    Raises:
        UserError: any error that would stop it at its start.
    """
    plan, changed = _checked(config, settings)
    first = plan.tasks[0].config
    total = len(plan.tasks) * first.num_students
    rows = [["arm", "students there", "settings"]]
    for task, arm in zip(plan.tasks, plan.arms, strict=True):
        there = 0 if task.name in changed else task.num_finished()
        rows.append([task.name, f"{there} of {first.num_students}", " ".join(arm.words)])
    seeds = f" x {first.seeds_per_draw} seeds" if first.seeds_per_draw > 1 else ""
    arms, draws = counted(len(plan.tasks), "arm"), counted(first.num_draws, "draw")
    whole = f"dry run: {arms} x {draws}{seeds} = {counted(total, 'student')}"
    lines = [f"{whole}; nothing was written", "", *aligned(rows)]
    tried, tasks = _candidates(config, settings)
    changed_tasks(tasks, overwrite=config.overwrite)
    if tried:
        total = sum(task.config.num_students for task in tasks)
        lines += ["", f"before that, {len(tried)} candidates for settings of arms are judged on "
                  f"{JUDGED_ON[tasks[0].config.validation]}: {total} students"]  # fmt: skip
    return "\n".join(lines)


def _checked(
    config: CompareConfig, settings: Sequence[ArmSettings]
) -> tuple[ArmsPlan, dict[str, list[str]]]:
    """The plan, and the existing arms with other settings.

    The settings of an arm with candidates are known only after the choice.
    """
    home = Path(config.out)
    plan = make_plan(config.study, settings, home)
    if launched().world_size > 1:
        raise UserError("genkt compare starts its own processes: start it once, without a launcher")
    _check_folder(home)
    open_ = {each.arm.name for each in settings if each.candidates}
    known = [task for task in plan.tasks if task.name not in open_]
    return plan, changed_tasks(known, overwrite=config.overwrite)


def _check_folder(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise UserError(f"out={home}: expected a folder, got a file")
    ours = {ARMS, FOLDER, LOGS, ".lock"}
    there = contents(home)
    if there - {LOCKS, ".lock"} and not there & ours - {".lock"}:
        raise UserError(f"out={home}: the folder is not empty and holds no comparison")


def _data(
    config: CompareConfig,
    plan: ArmsPlan,
    command: str,
    words: Sequence[str],
    tried: Sequence[Tried],
) -> CompareData:
    study = config.study
    read = [read_arm(task, arm) for task, arm in zip(plan.tasks, plan.arms, strict=True)]
    found = [arm for arm in read if arm is not None]
    shared = with_shared_images(found)
    failed = [(task.name, reason) for task in plan.tasks if (reason := task.failure())]
    if not found:
        lines = [f"arm {name}: {reason}" for name, reason in failed]
        raise UserError("\n".join(["no arm succeeded", *lines]))
    first = plan.tasks[0].config
    work = [work_in(Path(config.out)), work_in(Path(config.out) / FOLDER)]
    return CompareData(
        title=study.title,
        study=study.name,
        arms=shared.arms,
        baseline=study.baseline,
        reference=study.reference,
        pairs=[(a, b) for a, b in study.pairs],
        sweeps=plan.sweeps,
        failed=failed,
        words=words,
        command=command,
        versions=versions(),
        seed=first.seed,
        num_draws=first.num_draws,
        design=found[0].design,
        test_ids=shared.test_ids,
        notes=[*warnings(plan.tasks, shared.arms), *shared.notes, *lost(tried)],
        tuning=tried,
        tuned_on=JUDGED_ON[first.validation],
        work=Work(sum(part.wall_seconds for part in work), sum(part.task_seconds for part in work)),
    )


def describe(result: CompareResult) -> str:
    """The text printed at the end: the table, errors, and the place of the report."""
    lines = [text_table(findings(result.data)), ""]
    lines += [f"note: {note}" for note in result.data.notes]
    return "\n".join([*lines, f"report: {result.out / 'compare.html'}"])
