"""The main job: method and baseline on several label draws, then report and exported student."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.files import SEALS
from genkt.inference.student_card import student_card
from genkt.io import fingerprint_ids, write_text
from genkt.metrics.intervals import ScoreInterval
from genkt.models.backbone import Backbone
from genkt.models.weights import weights_notes
from genkt.precision import threads
from genkt.progress import Reporter, duration
from genkt.report.transfer.summary import against_baseline
from genkt.report.transfer.write_report import ReportData, build_report, text_summary
from genkt.runs.notices import announce
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import log_to_file
from genkt.runs.student_files import TrainedStudent
from genkt.settings.objects import has_objects, object_in
from genkt.transfers.average_notes import average_notes
from genkt.transfers.decide_run import decided, provisional
from genkt.transfers.export_student import export_student, seal_files
from genkt.transfers.make_sets import represent, with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import OpenedRun, RunWithSets, TrainedRun
from genkt.transfers.plan_file import write_plan
from genkt.transfers.plan_rules import Derived
from genkt.transfers.report_run import report_data
from genkt.transfers.side_by_side import num_finished, sets_are_tasks, threads_each, work_ahead
from genkt.transfers.size_notes import size_notes
from genkt.transfers.train_student import heal, train_student
from genkt.transfers.upstream_distance import upstream_distance
from genkt.types import draw_text

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class TransferResult:
    """The result of a transfer.

    Args:
        student: the exported student, in evaluation mode on the CPU.
        report: everything in report.json, as an object.
        out: the run folder.
        accuracy: mean test accuracy of the method over draws and seeds, 0..1.
    """

    student: Backbone
    report: ReportData
    out: Path
    accuracy: float

    @property
    def difference(self) -> ScoreInterval | None:
        """The method minus the baseline, shares, with its 95 % interval; None without a baseline.

        ``genkt.metrics.verdict`` says what it allows to be said.
        """
        found = against_baseline(self.report)
        return None if found is None else found.interval


def run_transfer(
    config: TransferConfig, plain: dict[str, Any], *, command: str, splits: Splits | None = None,
    plan: Sequence[Derived] = (),
) -> TransferResult:  # fmt: skip
    """Run or continue the transfer that ``config`` describes, or re-open it if it is finished.

    Args:
        config: the settings.  plain: the same, as written to ``config.yaml``.
        command: how to repeat it, for the report.
        splits: the data, if they are read already.
        plan: settings that were derived for the run, and are in ``config``.

    Raises:
        UserError: every mistake in settings, data or models, before anything is trained.
    """
    started = time.perf_counter()
    folder = RunFolder(config.out, plain, overwrite=config.overwrite)
    opened = open_run(provisional(config), folder, splits)
    if opened.is_first:
        folder.claim(command, _inputs(opened))
        if plan:
            write_plan(folder.path, plan)
    opened.fabric.barrier()
    with folder.at_work(), _log_of(opened):
        if opened.is_first and not folder.finished:
            for note in size_notes(opened):  # before a pilot, which it would make cheaper too
                announce(opened.fabric, note)
        opened = decided(config, opened, started)
        finished = _whole(opened)
        trained = _trained(opened, plain, is_new=not finished, shared=_shared(opened.config))
        result = _reported(trained, command, finished=finished)
        sealed = (
            finished and (folder.path / SEALS).is_file()
        )  # not if the run was killed just before sealing
        if opened.is_first and not sealed:
            seal_files(folder)
            folder.end()
            logger.info("finished in %s", duration(time.perf_counter() - started))
        opened.fabric.barrier()
    return result


@contextmanager
def _log_of(opened: OpenedRun) -> Iterator[None]:
    """Messages in this block go to the run's log as well."""
    handler = log_to_file(opened.folder.path / "train.log" if opened.is_first else None)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _trained(opened: OpenedRun, plain: dict[str, Any], *, is_new: bool, shared: bool) -> TrainedRun:
    """Make what students are trained on, then train all students.

    Args:
        is_new: the run has not ended before.
        shared: other processes may do part of the work.
    """
    config = opened.config
    if is_new:
        for note in average_notes(config, opened.plan.lengths(opened.planned_draw)):
            announce(opened.fabric, note)
        for note in opened.near_copies.notes() if opened.is_first else ():
            announce(opened.fabric, note)
    for note in weights_notes(config.weights_files):  # said when the run was opened
        logger.info(note)
    represented = represent(opened)
    upstream_distance(opened)
    ahead = shared and sets_are_tasks(opened)
    if ahead:
        work_ahead(opened, plain)
    run = with_sets(opened, represented)
    if shared and not ahead:
        work_ahead(opened, plain)
    opened.generators.release()
    with threads(threads_each(config) if shared else None):
        students = _students(run)
    # Folds of different draws hold different images, so they cannot compare students.
    compared = config.validation == "images"
    return TrainedRun(run, students, _best(students[config.main_arm]) if compared else 0)


def _reported(trained: TrainedRun, command: str, *, finished: bool) -> TransferResult:
    """The report, and the exported student.

    Args:
        finished: both exist already.
    """
    run, opened = trained.run, trained.run.opened
    student = opened.fresh_student()
    student.model.load_state_dict(trained.exported.weights)
    student.eval()
    folder = opened.folder.path
    if opened.is_first and not finished:
        _tell_change(trained)
        export_student(opened, student, trained.exported)
        told = opened.near_copies.notes()  # at the start
        found = [note for note in opened.all_near_copies.notes() if note not in told]
        for note in [*opened.lost.notes(), *found]:
            announce(opened.fabric, note)
    data = report_data(trained, command)
    if opened.is_first and not finished:
        teachers = [run.teachers.base(index) for index in range(len(run.teachers))]
        write_text(folder / "student" / "README.md", student_card(data, student, teachers))
        seal_files(
            opened.folder
        )  # otherwise a kill after the report would leave files without digests
        build_report(data, folder)  # last: the report marks the end of the run
    accuracies = [each.result.accuracy for each in trained.main]
    return TransferResult(student, data, folder, sum(accuracies) / len(accuracies))


def _whole(opened: OpenedRun) -> bool:
    """Whether the run has ended; damaged files count as missing."""
    folder = opened.folder
    if opened.is_first:
        folder.remove_damaged()
    if heal(opened) and opened.is_first:
        folder.reopen()
    return opened.fabric.broadcast(folder.finished)


def _inputs(opened: OpenedRun) -> dict[str, str]:
    """Fingerprints of the images, and of models given in Python."""
    pool, parts = opened.pool, opened.pool.splits.parts
    found = {"images": fingerprint_ids(pool.images.ids)}
    for name in sorted(parts.keys() & {"train", "validation", "test"}):
        labels = map(str, parts[name].labels.tolist())
        found[f"{name} images"] = fingerprint_ids([*parts[name].ids, *parts[name].classes, *labels])
    for name in opened.config.generators:
        found[f"generator {name}"] = opened.generators.load(name).fingerprint()
    config = opened.config
    if (student := object_in(config.student.model)) is not None:
        found["student"] = student.fingerprint()
    for index, model in enumerate(config.teacher.models):
        if (teacher := object_in(model)) is not None:
            found[f"teacher {index}"] = teacher.fingerprint()
    shared = pool.draws[0].parts
    if shared or has_objects(config.transfer_set):
        found["shares"] = ", ".join(f"{part.share} of {len(part.rows)}" for part in shared)
    return found


def _shared(config: TransferConfig) -> bool:
    """Whether other processes can load all that the run needs."""
    if not has_objects(config):
        return True
    if config.executor.name == "pool":
        logger.warning(
            "executor=pool: other processes cannot load objects given in Python, so this "
            "process does all the work"
        )
    return False


def _students(run: RunWithSets) -> dict[str, tuple[TrainedStudent, ...]]:
    """Every arm on every draw, with every seed; the method's first student comes first of all.

    Arms share the labels of a draw; with one seed also order, views and first weights.
    """
    students: dict[str, list[TrainedStudent]] = {arm: [] for arm in run.config.arms}
    total = len(students) * run.config.num_students
    done = num_finished(run.config)
    shown = run.opened.is_first and done < total
    main = run.config.main_arm
    with Reporter(total, "students", unit="students", shown=shown) as reporter:
        for draw in run.pool.draws:
            for arm in sorted(students, key=lambda name: name != main):
                for one in run.opened.students_of(draw):
                    students[arm].append(train_student(run, one, arm))
                    reporter.advance()
    if not run.folder.finished:
        every = [student.log for found in students.values() for student in found]
        run.opened.log.put_right({key: lines for log in every for key, lines in log.items()})
    return {arm: tuple(found) for arm, found in students.items()}


def _tell_change(trained: TrainedRun) -> None:
    """Say which student takes the place of the first one."""
    result = trained.exported.result
    if result.draw or result.seed:
        name = draw_text(result.draw, result.seed)
        logger.info(
            "the student of %s was best on validation; it takes the first one's place", name
        )


def _best(students: Sequence[TrainedStudent]) -> int:
    """Place of the exported student: best on validation where there is such a part, or first."""
    results = [student.result for student in students]
    return max(
        range(len(results)),
        key=lambda i: ((results[i].validated or ("", 0.0))[1], -i),
    )


def describe(result: TransferResult) -> str:
    """The text printed at the end: table, place of the report, code that loads the student."""
    return "\n".join(
        [
            text_summary(result.report),
            "",
            f"report: {result.out / 'report.html'}",
            "",
            result.report.snippet,
        ]
    )
