"""The phases of a run: opened, with its sets, trained. Each is the input of the next.

A later phase never changes an earlier one. Their objects may load or cache on demand (models,
views, outputs of teachers), which changes no result.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from genkt.config.transfer_settings import TransferConfig
from genkt.data.near_copies import NearCopiesOfTest, find_near_copies, fits
from genkt.data.views import ViewSpec
from genkt.execution.ranks import Processes
from genkt.models.backbone import Backbone
from genkt.readers.in_full import with_looks
from genkt.runs.model_factories import ModelFactory
from genkt.runs.notices import tell
from genkt.runs.pool import Draw, Pool
from genkt.runs.represented import OwnSet, Represented
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import RunLog
from genkt.runs.student_files import TrainedStudent
from genkt.stages.arms import StudentArm
from genkt.stages.prepare_teachers import Teachers
from genkt.stages.recipe_plan import RecipePlan
from genkt.stages.student_training import StudentTraining
from genkt.training.lightning import Fabric
from genkt.training.lost_images import LostImages
from genkt.transfers.generators import Generators
from genkt.transfers.pilot_file import Pilot
from genkt.transfers.set_maker import SetMaker, Workplace
from genkt.types import StudentResult

LOST_IMAGES = "lost_images.jsonl"
"""File of a run: its transfer images that could no longer be read, where there are any."""


@dataclass(frozen=True)
class OpenedRun:
    """Settings, data and models, checked against each other before anything is written.

    Args:
        folder, log: where it is written.
        cache_home: folder of teacher outputs that later runs read too.
        fabric: device and processes.
        pool: the images of all draws, without the sets that draws make of their own.
        views: the stored views of transfer images.
        student: makes a fresh student.  teachers: one function per teacher that makes a fresh one.
        plan: what is trained.
        generators: on the device.
        maker: gives each draw a transfer set of its own; None: the settings name one.
        pilot: what decided settings that were open; None: none was.
    """

    config: TransferConfig
    folder: RunFolder
    log: RunLog
    cache_home: Path
    fabric: Fabric
    pool: Pool
    views: ViewSpec
    student: ModelFactory
    teachers: tuple[ModelFactory, ...]
    plan: RecipePlan
    generators: Generators
    maker: SetMaker | None
    pilot: Pilot | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the first process of its launch, which writes and speaks for all."""
        return self.fabric.is_global_zero

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return len(self.pool.splits.classes)

    @cached_property
    def near_copies(self) -> NearCopiesOfTest:
        """Test pictures that are nearly pictures of other parts; looked for when it is asked.

        Unlabelled pictures that nobody has decoded yet are left to the report.
        """
        splits = self.pool.splits
        return find_near_copies(replace(splits, unlabelled=None) if self._unseen else splits)

    @cached_property
    def all_near_copies(self) -> NearCopiesOfTest:
        """Those of unlabelled pictures too: for the report, as it may decode all of them."""
        if not self._unseen:
            return self.near_copies
        return find_near_copies(with_looks(self.pool.splits))

    @property
    def _unseen(self) -> bool:
        """Whether unlabelled pictures must be decoded before they are compared, and may be."""
        splits = self.pool.splits
        return splits.unlabelled is not None and splits.unlabelled.looks is None and fits(splits)

    @cached_property
    def lost(self) -> LostImages:
        """Transfer images that can no longer be read, of all processes and starts of the run."""
        path = self.folder.path / LOST_IMAGES
        return LostImages(self.config.data.most_skipped, path, partial(tell, self.fabric))

    @property
    def num_made(self) -> int:
        """The number of transfer images that a draw makes or finds itself."""
        pool = self.pool
        return self.maker.num_images(pool.draws[0], pool.splits) if self.maker else 0

    @property
    def planned_draw(self) -> Draw:
        """The first draw with its final number of transfer images, before they are made."""
        draw, made = self.pool.draws[0], np.zeros(self.num_made, np.int64)
        return replace(draw, transfer=np.concatenate([draw.transfer, made]))

    @property
    def workplace(self) -> Workplace:
        """Where all processes of the launch make its sets."""
        fabric = self.fabric
        processes = Processes(fabric.global_rank, fabric.world_size, fabric.barrier)
        return Workplace(self.folder.path, processes)

    def alone(self, part: str) -> AbstractContextManager[float]:
        """Lock a part of the run; all processes of the launch make it together.

        Yields the seconds waited for another process.
        """
        return self.folder.alone(part, first=self.is_first)

    def students_of(self, draw: Draw) -> list[Draw]:
        """The draw for each of its students."""
        return [draw.for_student(number) for number in range(self.config.seeds_per_draw)]

    def fresh_student(self, seed: int = 0) -> Backbone:
        """A student before any training in this run."""
        return self.student(self.num_classes, seed)


@dataclass(frozen=True)
class RunWithSets:
    """A run with all its images, whose teachers can be used.

    Args:
        pool: with the transfer images of every draw.
        sets: those that each draw made or found, where the run does that.
        represented: the labelled images and their reconstructions, where a stage needs them.
    """

    opened: OpenedRun
    pool: Pool
    sets: tuple[OwnSet, ...]
    represented: Represented | None
    images: RunImages
    teachers: Teachers

    @property
    def config(self) -> TransferConfig:
        """Of the run."""
        return self.opened.config

    @property
    def folder(self) -> RunFolder:
        """Of the run."""
        return self.opened.folder

    def arm(self, name: str) -> StudentArm:
        """One of the arms."""
        return self.opened.plan.arms[name]

    def training(
        self, draw: Draw, arm: str, directory: Path, student: Backbone,
        first: StudentResult | None = None,
    ) -> StudentTraining:  # fmt: skip
        """The training of one student, at its start.

        Args:
            directory: of its stages.
            first: as in ``StudentTraining``.
        """
        return StudentTraining(
            student=student,
            draw=draw,
            directory=directory,
            log=self.opened.log.stage(draw.index, arm, draw.student),
            images=self.images,
            pool=self.pool,
            all_teachers=self.teachers,
            fresh=lambda: self.opened.fresh_student(draw.seed_for("student")),
            represented=self.represented,
            first=first,
        )


@dataclass(frozen=True)
class TrainedRun:
    """A run with all its students.

    Args:
        students: of every arm, draw after draw, and of a draw seed after seed.
        chosen: the place of the exported student in this order.
    """

    run: RunWithSets
    students: Mapping[str, tuple[TrainedStudent, ...]]
    chosen: int

    @property
    def main(self) -> tuple[TrainedStudent, ...]:
        """The students of the arm that is exported."""
        return self.students[self.run.config.main_arm]

    @property
    def exported(self) -> TrainedStudent:
        """The student that is exported."""
        return self.main[self.chosen]
