"""The student of a run in its folder: the first one as soon as it is trained, at the end the best.

A stop after the first student loses nothing: ``genkt predict``, ``export`` and ``evaluate`` take
it from the folder of the run that has not finished.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from genkt.files import SEALS, damaged_files, discard
from genkt.inference.student_card import first_card
from genkt.io import atomic_path, write_text
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_folder import RunFolder
from genkt.runs.student_files import TrainedStudent
from genkt.training.checkpoint import save_weights
from genkt.transfers.phases import OpenedRun, RunWithSets
from genkt.types import EARLIER, KEPT, STAGE

EXPORTED = ("student/config.json", "student/model.safetensors")
"""The files of a student that timm loads."""

CHECKPOINTS = ("checkpoints/last.safetensors", "checkpoints/best.safetensors")

_SEALED = ("report.json", "report.html", *EXPORTED, *CHECKPOINTS)
"""The files of a run that others read."""

_NEW = "student.new"

logger = logging.getLogger("genkt")


def seal_files(folder: RunFolder) -> None:
    """Write the digests of the files that others read."""
    folder.seal([name for name in _SEALED if (folder.path / name).is_file()])


def export_student(opened: OpenedRun, student: Backbone, trained: TrainedStudent) -> None:
    """The student as timm loads it, and its checkpoints, at the top of the run folder.

    They take the place of an earlier student's. Digests are missing from the first change on until
    ``seal_files``, so that a kill between the two leaves no student that is half another one.
    """
    folder = opened.folder.path
    discard(folder / SEALS)
    new = folder / _NEW
    discard(new)
    student.export(new, opened.pool.splits.classes)
    (folder / "student").mkdir(exist_ok=True)
    for path in sorted(new.iterdir()):
        os.replace(path, folder / "student" / path.name)
    new.rmdir()
    for name in CHECKPOINTS:
        _replaced(_checkpoint(opened.folder, trained, Path(name).name), folder / name)
    if trained.result.extras.get(KEPT) == EARLIER:  # of the baseline no stage has ended there
        save_weights(folder / CHECKPOINTS[0], trained.weights)


def _checkpoint(folder: RunFolder, trained: TrainedStudent, name: str) -> Path | None:
    """The checkpoint of the student's last stage that kept one, a stage taken back apart."""
    result = trained.result
    source = folder.student(result.draw, result.arm, result.seed)
    stages = list(trained.stages)
    if result.extras.get(KEPT) == EARLIER:
        stages = [name for name in stages if name == result.extras.get(f"{STAGE}{EARLIER}")]
    ended = [stage for stage in stages if (source / stage / "last.safetensors").is_file()]
    path = source / ended[-1] / name if ended else None
    return path if path is not None and path.is_file() else None


def _replaced(source: Path | None, target: Path) -> None:
    """A copy of a file in the place of another; without a file none."""
    if source is None:
        target.unlink(missing_ok=True)
        return
    with atomic_path(target, source.stat().st_size) as temporary:
        shutil.copyfile(source, temporary)


def is_first(opened: OpenedRun, draw: Draw, arm: str) -> bool:
    """Whether this is the student that a run trains before all others."""
    return (draw.index, draw.student, arm) == (0, 0, opened.config.main_arm)


def is_handed_over(folder: Path) -> bool:
    """Whether a student of the run can be used: the first one, or the one chosen at the end."""
    there = (folder / SEALS).is_file() and (folder / EXPORTED[-1]).is_file()
    return there and not damaged_files(folder, (*EXPORTED, *CHECKPOINTS))


def hand_over(run: RunWithSets, trained: TrainedStudent) -> None:
    """Put the first student into the run folder, unless the folder has one already."""
    opened = run.opened
    if not opened.is_first or opened.folder.finished or is_handed_over(opened.folder.path):
        return
    with opened.alone("first student"):
        if is_handed_over(opened.folder.path):  # by another process meanwhile
            return
        student = opened.fresh_student()
        student.model.load_state_dict(trained.weights)
        export_student(opened, student.eval(), trained)
        teachers = [run.teachers.base(index) for index in range(len(run.teachers))]
        card = first_card(student, teachers, opened.pool.splits.classes, trained.result.accuracy)
        write_text(opened.folder.path / "student" / "README.md", card)
        seal_files(opened.folder)
    logger.info(first_text(opened))


def first_text(opened: OpenedRun) -> str:
    """Where the first student is, and what comes next."""
    folder, config = opened.folder.path, opened.config
    rest = config.num_students * len(config.arms) - 1
    follow = f"; {rest} more students follow, for the comparison" if rest else ""
    return f"a first student can be used: {folder / 'student'} (genkt predict {folder}){follow}"
