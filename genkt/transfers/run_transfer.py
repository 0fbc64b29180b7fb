"""The main job: method and baseline on several label draws, then report and exported student."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genkt.config.transfer_settings import TransferConfig
from genkt.files import SEALS
from genkt.inference.student_card import student_card
from genkt.io import atomic_path, fingerprint_ids, write_text
from genkt.models.backbone import Backbone
from genkt.models.weights import weights_notes
from genkt.precision import threads
from genkt.progress import Reporter, duration
from genkt.report.transfer.write_report import ReportData, build_report, text_summary
from genkt.runs.notices import announce
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import log_to_file
from genkt.runs.session import Session, weights_files
from genkt.runs.student_files import Cell
from genkt.transfers.average_notes import average_notes
from genkt.transfers.open_run import Given, open_session
from genkt.transfers.own_sets import make_sets, needed_generators, represent
from genkt.transfers.report_run import report_data
from genkt.transfers.side_by_side import num_finished, threads_each, work_ahead
from genkt.transfers.train_student import heal, run_cell
from genkt.transfers.upstream_distance import upstream_distance

logger = logging.getLogger("genkt")

_SEALED = (
    "report.json", "report.html", "student/config.json", "student/model.safetensors",
    "checkpoints/last.safetensors", "checkpoints/best.safetensors",
)  # fmt: skip
"""What others read of a finished run."""


@dataclass(frozen=True)
class TransferResult:
    """What a transfer gives back.

    Args:
        student: the exported student, in evaluation mode on the CPU.
        report: everything in report.json, as an object.
        out: the run folder.
        accuracy: mean test accuracy of the method over the draws, 0..1.
    """

    student: Backbone
    report: ReportData
    out: Path
    accuracy: float


def run_transfer(
    config: TransferConfig, plain: dict[str, Any], *, command: str, given: Given | None = None
) -> TransferResult:
    """Run, continue, or (where it has ended) re-open the transfer that ``config`` describes.

    Args:
        config: the settings.  plain: the same, as written to ``config.yaml``.
        command: how to repeat it, for the report.
        given: Python objects in place of the data, the student, the teachers or the set that
            ``transfer_set=saved`` names.

    Raises:
        UserError: every mistake in settings, data or models, before anything is trained.
    """
    started = time.perf_counter()
    folder = RunFolder(config.out, plain, overwrite=config.overwrite)
    session = open_session(config, folder, given or Given())
    if session.fabric.is_global_zero:
        folder.claim(command, _inputs(session, given or Given()))
    session.fabric.barrier()
    with folder.at_work():
        return _run(session, plain, command, given or Given(), started)


def _run(
    session: Session, plain: dict[str, Any], command: str, given: Given, started: float
) -> TransferResult:
    """The run in a folder that is its own."""
    config, folder = session.config, session.folder
    handler = log_to_file(folder.path / "train.log" if session.fabric.is_global_zero else None)
    try:
        finished = _whole(session)
        for note in () if finished else average_notes(session):
            announce(session, note)
        for note in weights_notes(weights_files(config)):  # said when the run was opened
            logger.info(note)
        shared = _shared(config, given)
        represent(session)
        upstream_distance(session)
        if shared:
            work_ahead(session, plain)
        make_sets(session)
        session.release_generators()
        with threads(threads_each(config) if shared else None):
            cells = _run_cells(session)
        chosen = _chosen_draw(session, cells)
        student = _restored(session, cells[config.main_arm][chosen])
        if session.fabric.is_global_zero and not finished:
            _export(session, student, cells[config.main_arm][chosen])
        data = report_data(session, cells, chosen, command)
        if session.fabric.is_global_zero and not finished:
            write_text(folder.path / "student" / "README.md", _card(session, data, student))
            build_report(data, folder.path)  # last: the run has ended where the report is
        sealed = finished and (folder.path / SEALS).is_file()  # not where killed just before it
        if session.fabric.is_global_zero and not sealed:
            folder.seal([name for name in _SEALED if (folder.path / name).is_file()])
            folder.end()
            logger.info("finished in %s", duration(time.perf_counter() - started))
        session.fabric.barrier()
    finally:
        logger.removeHandler(handler)
        handler.close()
    accuracies = [cell.result.accuracy for cell in cells[config.main_arm]]
    return TransferResult(student, data, folder.path, sum(accuracies) / len(accuracies))


def _whole(session: Session) -> bool:
    """Whether the run has ended; what is damaged of it counts as not there."""
    folder = session.folder
    if session.fabric.is_global_zero:
        folder.remove_damaged()
    if heal(session) and session.fabric.is_global_zero:
        folder.reopen()
    return session.fabric.broadcast(folder.finished)


def _inputs(session: Session, given: Given) -> dict[str, str]:
    """Fingerprints of the images, and of models given in Python: the settings only name them."""
    pool, parts = session.pool, session.pool.splits.parts
    found = {"images": fingerprint_ids(pool.images.ids)}
    for name in sorted(parts.keys() & {"train", "validation", "test"}):
        labels = map(str, parts[name].labels.tolist())
        found[f"{name} images"] = fingerprint_ids([*parts[name].ids, *parts[name].classes, *labels])
    for name in needed_generators(session.config):
        found[f"generator {name}"] = session.generator(name).fingerprint()
    if given.student is not None:
        found["student"] = given.student.fingerprint()
    for index, teacher in enumerate(given.teachers or ()):
        found[f"teacher {index}"] = teacher.fingerprint()
    shared = pool.draws[0].parts
    if shared or given.transfer_set is not None:
        found["shares"] = ", ".join(f"{part.share} of {len(part.rows)}" for part in shared)
    return found


def _shared(config: TransferConfig, given: Given) -> bool:
    """Whether other processes can load all that the run needs."""
    if given.found_by_name(config):
        return True
    if config.executor.name == "pool":
        logger.warning(
            "executor=pool: other processes cannot load objects given in Python; this one does "
            "the work"
        )
    return False


def _run_cells(session: Session) -> dict[str, list[Cell]]:
    """Every arm on every draw; arms of one draw share labels, order, views and first weights."""
    cells: dict[str, list[Cell]] = {arm: [] for arm in session.config.arms}
    total = len(cells) * session.config.draws
    done = num_finished(session.config)
    shown = session.fabric.is_global_zero and done < total
    with Reporter(total, "students", unit="students", shown=shown) as reporter:
        for draw in session.pool.draws:
            for arm, found in cells.items():
                found.append(run_cell(session, draw, arm))
                reporter.advance()
    if not session.folder.finished:
        every = [cell.log for arm in cells for cell in cells[arm]]
        session.log.put_right({key: lines for log in every for key, lines in log.items()})
    return cells


def _chosen_draw(session: Session, cells: dict[str, list[Cell]]) -> int:
    """The draw whose student is exported: best on validation where there is such a part."""
    results = [cell.result for cell in cells[session.config.main_arm]]
    return max(
        range(len(results)),
        key=lambda i: (float(results[i].extras.get("validation_accuracy", 0.0)), -i),
    )


def _restored(session: Session, cell: Cell) -> Backbone:
    student = session.student(session.num_classes, 0)
    student.model.load_state_dict(cell.weights)
    return student.eval()


def _export(session: Session, student: Backbone, cell: Cell) -> None:
    """The student as timm loads it, and its checkpoints at the top of the run folder."""
    student.export(session.folder.path / "student", session.pool.splits.classes)
    source = session.folder.cell(cell.result.draw, cell.result.arm)
    ended = [stage for stage in cell.stages if (source / stage / "last.safetensors").is_file()]
    if not ended:
        return
    stage = ended[-1]
    for name in ("last", "best"):
        path = source / stage / f"{name}.safetensors"
        if path.is_file():
            target = session.folder.path / "checkpoints" / f"{name}.safetensors"
            with atomic_path(target, path.stat().st_size) as temporary:
                shutil.copyfile(path, temporary)


def _card(session: Session, data: ReportData, student: Backbone) -> str:
    teachers = [session.teacher(index) for index in range(len(session.teachers))]
    return student_card(data, student, teachers)


def describe(result: TransferResult) -> str:
    """What is printed at the end: table, where the report is, and code that loads the student."""
    return "\n".join(
        [
            text_summary(result.report),
            "",
            f"report: {result.out / 'report.html'}",
            "",
            result.report.snippet,
        ]
    )
