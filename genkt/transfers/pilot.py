"""What a run measures before it starts, where settings are "auto": rates, steps and seconds.

A student of the first draw learns at each of a few rates, and is asked transfer images that were
held out: how often does it say what the teachers say? No label is read for that. With the best rate
it goes on, and is asked again after twice the steps, until twice the steps bring no more. The
rate stays as it is meanwhile, and the mean weights of the last tenth of the steps are asked, so one
training gives the whole curve. The baseline's rate is chosen among as many, by trials of as many
steps in all, as ``validation`` makes its choices, or on folds of the labels. Test images are read
by none of it.

Everything is decided once: ``pilot.json`` holds the numbers, and all that follows reads these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genkt.config.irf_settings import BASELINE
from genkt.config.transfer_settings import TransferConfig
from genkt.metrics.choices import chosen
from genkt.progress import duration
from genkt.stages.arms import PlainArm
from genkt.stages.build_stages import StageBuilder
from genkt.stages.cross_validation import folds_of
from genkt.stages.distil import Distillation
from genkt.stages.held_out import asked_by_teachers, held_exam
from genkt.stages.recipe_plan import plan_of
from genkt.stages.student_training import TEACHERS, StudentTraining
from genkt.transfers.count_views import num_asked
from genkt.transfers.phases import RunWithSets
from genkt.transfers.pilot_file import HOME, Measured, Measurement, Pilot, Values, with_values
from genkt.transfers.pilot_rules import (
    MOST_DRAWS,
    SHORT_SECONDS,
    Clock,
    Point,
    draws_for,
    next_steps,
    steps_for,
    trial_steps,
)
from genkt.transfers.side_by_side import num_processes
from genkt.types import Cost, UserError

_FOLDS = 2
"""Of the baseline's trials, where no validation image is read."""

_ALLOWANCE = 1.1
"""A run takes a little longer than its steps."""


@dataclass(frozen=True)
class Trials:
    """The student's trials, and how it is asked.

    Args:
        stage: what is tried.
        training: its "test" images are those that were held out, labelled by the teachers.
        measured: trials that have ended.
    """

    stage: Distillation
    training: StudentTraining
    measured: Measured

    def at(self, lr: float, steps: int) -> Measurement:
        """The student after so many steps at a rate; the cost is that of all of them."""
        name = f"rate-{lr:g}"
        key, images = f"{name} {steps}", self.training.images
        if key not in self.measured.known:
            student, cost = self.stage.trial(self.training, lr, steps, name)
            scores = images.predictions(student, "test").scores
            found = Measurement(cost, tuple(map(float, scores)))
            self.measured.add(key, images.fabric.broadcast(found))
        return self.measured.known[key]


@dataclass
class PilotRun:
    """A pilot at work.

    Args:
        run: opened with provisional numbers; its first draw is used.
        config: the settings with what is open.
        started: when this process began, for ``minutes``.
    """

    run: RunWithSets
    config: TransferConfig
    started: float

    def __post_init__(self) -> None:
        opened = self.run.opened
        self.measured = Measured(self.run.folder.path, enabled=opened.is_first)
        self.measured.known = opened.fabric.broadcast(self.measured.known)
        self.before = sum(one.cost.seconds for one in self.measured.known.values())
        self.per_step = self.per_view = self.teacher_seconds = 0.0
        self.values: Values = {}
        self.pilot = Pilot({})
        self.reasons: list[str] = []
        self.length = self._trial_length()

    def decide(self) -> Pilot:
        """Numbers for every setting that is open.

        Raises:
            UserError: ``minutes`` are too few.
        """
        stage = self.run.opened.plan.taught
        if stage is not None:
            self._teach(stage)
        self._fall_back()
        self._choose_plain()
        self._count_draws()
        return replace(self.pilot, values=self.values, reasons=tuple(self.reasons))

    @property
    def home(self) -> Path:
        """Folder of what is trained."""
        return self.run.folder.path / HOME

    def is_open(self, key: str) -> bool:
        """Whether a setting is to be decided, and is not yet."""
        return key in self.config.undecided and key not in self.values

    def _say(self, key: str, value: float | int, why: str) -> None:
        self.values[key] = value
        self.reasons.append(f"{key}={value:g}: {why}")

    # The student.

    def _teach(self, stage: Distillation) -> None:
        """Decide its rate and its steps."""
        run, draw = self.run, self.run.pool.draws[0]
        own = self.config.distil_stages[stage.name]
        rates = list(self.config.pilot.rates) if self.is_open("train.lr") else []
        rates = [own.lr] if own.lr is not None else rates or [self.config.train.rate]
        length = self.length
        timed = self.is_open("draws") or self.config.minutes is not None
        counts = self.is_open("train.steps") and own.steps is None and own.epochs is None
        if not (counts or timed or len(rates) > 1) or not length:
            return
        try:
            exam = held_exam(run.images, run.pool, draw)
        except UserError as error:
            self.reasons.append(f"nothing can be held out to ask the student ({error})")
            return
        teachers = replace(run.teachers, images=exam.images, _prepared={}, _counted=set())
        student = run.opened.fresh_student()
        training = run.training(exam.draw, run.config.main_arm, self.home, student)
        training = replace(training, images=exam.images, all_teachers=teachers)
        training.log = training.log.below("pilot-")
        training = asked_by_teachers(training, exam.draw)
        self.teacher_seconds = training.costs.get(TEACHERS, Cost()).seconds
        trials = Trials(stage, training, self.measured)
        num_held = len(exam.images.splits.parts["test"])
        self.pilot = replace(self.pilot, held_out=num_held)
        lr = self._choose_rate(trials, rates, length)
        if counts:
            self._count_steps(trials, lr)
        costs = {key.partition(" ")[0]: one.cost for key, one in self.measured.known.items()}
        self.pilot = replace(self.pilot, student=sum(costs.values(), Cost()))
        training.log.close()

    def _trial_length(self) -> int:
        """Steps of a trial of one rate; 0: none is tried."""
        open_steps = self.is_open("train.steps")
        given = None if open_steps else self.run.opened.plan.num_steps(self.run.pool.draws[0])
        draws = self.config.draws if not self.is_open("draws") else MOST_DRAWS
        assert draws != "auto"
        students = draws * self.config.seeds_per_draw * len(self.config.arms)
        pilot = self.config.pilot
        return trial_steps(pilot.least_steps, given, len(pilot.rates), students)

    def _choose_rate(self, trials: Trials, rates: Sequence[float], length: int) -> float:
        found = [trials.at(rates[0], length)]
        cost = found[0].cost
        self.per_step = (cost.seconds - cost.fill_seconds) / max(1, length)
        self.per_view = cost.fill_seconds / max(1, cost.teacher_images)
        self._clock().most_steps(self._least(), self._least())  # refuses minutes that are too few
        for lr in rates[1:]:
            if self._has_time(length):
                found.append(trials.at(lr, length))
        tried = rates[: len(found)]
        lr = tried[chosen([each.scores for each in found])]
        points = [(rate, Point(length, each.scores).agreement) for rate, each in
                  zip(tried, found, strict=True)]  # fmt: skip
        self.pilot = replace(self.pilot, rates=tuple(points))
        if self.is_open("train.lr"):
            shown = ", ".join(f"{rate:g} {share:.0%}" for rate, share in points)
            late = "; no time for more" if len(tried) < len(rates) else ""
            self._say("train.lr", lr, f"{self._judged} after {length} steps: {shown}{late}")
        return lr

    @property
    def _judged(self) -> str:
        return f"agreement with the teachers on {self.pilot.held_out} held-out images"

    def _least(self) -> int:
        """The fewest steps of the run; of steps that are given, their number does not matter."""
        return self.config.pilot.least_steps if "train.steps" in self.config.undecided else 1

    def _count_steps(self, trials: Trials, lr: float) -> None:
        """Measure after twice the steps until that no longer pays, or time ends."""
        least, most = self.config.pilot.least_steps, self.config.pilot.most_steps
        curve = [Point(least, trials.at(lr, least).scores)]
        fits = most
        while not steps_for(curve, most)[1]:
            steps = next_steps(curve[-1].steps, most)
            fits = self._clock(steps - curve[-1].steps).fitting(least, most)
            if fits < steps:
                break
            curve.append(Point(steps, trials.at(lr, steps).scores))
        steps, ended, rising = steps_for(curve, most)
        shown = ", ".join(f"{point.steps} {point.agreement:.0%}" for point in curve)
        why = f"{self._judged}: {shown}"
        if not ended:  # by the clock
            steps, rising = max(least, self._clock().fitting(least, most)), True
            why += f"; all that {self.config.minutes:g} minutes allow"
        self._say("train.steps", steps, why)
        points = tuple((point.steps, point.agreement) for point in curve)
        self.pilot = replace(self.pilot, curve=points)
        if rising:
            more = f"minutes={2 * (self.config.minutes or 0):g}" if not ended else ""
            more = more or f"pilot.most_steps={2 * most}"
            text = f"the student still got better when {steps} steps ended it; try {more}"
            self.pilot = replace(self.pilot, rising=text)

    def _fall_back(self) -> None:
        """Numbers for what was not measured."""
        pilot = self.config.pilot
        if self.is_open("train.steps"):
            steps = self._clock().most_steps(pilot.least_steps, pilot.least_steps)
            self._say("train.steps", steps, "the least, as no teacher could be followed")
        if self.is_open("train.lr") and not self._is_plain_alone:
            self._say("train.lr", pilot.rates[0], "the first of pilot.rates; no rate was tried")

    @property
    def _is_plain_alone(self) -> bool:
        """Whether plain fine-tuning is the method, so that its rate is ``train.lr``."""
        return self.run.config.is_plain and self.config.plain.lr is None

    # The baseline.

    def _choose_plain(self) -> None:
        """Its rate, by trials as long in all as the student's."""
        key = "train.lr" if self.is_open("train.lr") else "plain.lr"
        if not self.is_open(key):
            return
        arm, rates = self.run.opened.plan.baseline, list(self.config.pilot.rates)
        length = self.length
        why = "the first of pilot.rates; no rate was tried"
        if arm is None or not length or len(rates) < 2 or not self._has_time(0):
            self._say(key, rates[0], why)
            return
        images, draw = self.run.images, self.run.pool.draws[0]
        if not images.has_validation:
            images = replace(images, folds=_FOLDS)
            try:
                folds_of(draw, images.folds)
            except UserError as error:
                self._say(key, rates[0], f"{why} ({error})")
                return
        lr = self._searched(arm, replace(self._plain_training(), images=images), rates, length)
        where = "the validation images" if images.has_validation else f"{_FOLDS} folds of labels"
        self._say(key, lr, f"the best on {where} of {', '.join(f'{rate:g}' for rate in rates)}")
        self.pilot = replace(self.pilot, labels=images.has_validation)

    def _plain_training(self) -> StudentTraining:
        draw, opened = self.run.pool.draws[0], self.run.opened
        home = self.home / BASELINE
        student = opened.fresh_student(draw.seed_for("student"))
        training = self.run.training(draw, BASELINE, home, student)
        training.log = training.log.below("pilot-")
        return training

    def _searched(
        self, arm: PlainArm, training: StudentTraining, rates: Sequence[float], length: int
    ) -> float:
        each = length if training.images.has_validation else max(1, length // _FOLDS)
        lr, cost = arm.best_rate(training, rates, lambda draw: each)
        training.log.close()
        if not self.per_step:
            self.per_step = cost.seconds / max(1, cost.steps)
        self.pilot = replace(self.pilot, baseline=cost)
        fabric = self.run.opened.fabric
        self.per_step = fabric.broadcast(self.per_step)
        return lr

    # The time.

    def _count_draws(self) -> None:
        if not self.is_open("draws"):
            return
        if self.config.re_represents:
            self._say("draws", MOST_DRAWS, "images are re-represented once for all draws")
            return
        limit, clock = SHORT_SECONDS, self._clock()
        if clock.left is not None:
            limit = clock.left
        steps = self._steps
        draws = draws_for(lambda number: clock.run_seconds(steps, number), limit)
        self._say("draws", draws, f"about {duration(clock.run_seconds(steps, draws))} for all")

    def _spent(self) -> float:
        """Seconds so far, those of earlier starts too; the same in every process of a launch."""
        spent = self.before + time.perf_counter() - self.started
        return float(self.run.opened.fabric.broadcast(spent))

    @property
    def _steps(self) -> int:
        """Those of the run, or the fewest where they are not decided yet."""
        return int(self.values.get("train.steps", self._least()))

    def _clock(self, more_steps: int = 0) -> Clock:
        """The time left after so many more steps of the pilot, and the trials of the baseline."""
        if self.is_open("plain.lr") and self.run.opened.plan.baseline is not None:
            more_steps += self.length * len(self.config.pilot.rates)
        draws, minutes = self.config.draws, self.config.minutes
        number = None if draws == "auto" else draws
        left = None
        if minutes is not None:
            left = 60 * minutes - self._spent() - more_steps * self.per_step
        return Clock(left, self._run_seconds, number, minutes)

    def _has_time(self, more_steps: int) -> bool:
        """Whether the run fits into the time after so many more steps of the pilot."""
        return self._clock(more_steps).fitting(self._steps, self._steps) > 0

    def _run_seconds(self, steps: int, draws: int) -> float:
        """An estimate of a run from the seconds of a step, of a view and of the sets."""
        run, opened = self.run, self.run.opened
        values: Values = {"train.steps": steps} if "train.steps" in self.config.undecided else {}
        config = with_values(run.config, {**values, "draws": draws})
        builder = StageBuilder(config, run.pool.splits, opened.views, len(opened.teachers))
        plan = plan_of(builder)
        draw, arms = run.pool.draws[0], len(config.arms)
        each = config.seeds_per_draw * plan.num_steps(draw)
        searched = plan.searched_steps(draw) + plan.baseline_searched_steps(draw)
        a_draw = (arms * each + searched) * self.per_step
        rounds = -(-draws * arms // num_processes(config)) / arms
        seconds = rounds * a_draw + (draws - 1) * sum(own.seconds for own in run.sets)
        seconds += len(opened.teachers) * num_asked(opened, plan) * self.per_view
        if config.adapts_by_training:
            seconds += draws * self.teacher_seconds
        return _ALLOWANCE * seconds
