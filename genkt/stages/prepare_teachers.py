"""The teachers of a draw: unchanged, linearly probed or fine-tuned; outputs computed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genkt.config.irf_settings import IRF_SETTINGS
from genkt.config.stage_settings import Adaptation
from genkt.config.transfer_settings import TransferConfig
from genkt.data.views import FIXED_VIEW
from genkt.methods.shapes import TeacherShape
from genkt.models.backbone import Backbone
from genkt.runs.model_factories import ModelFactory
from genkt.runs.pool import Draw, Pool
from genkt.runs.represented import Represented
from genkt.runs.run_folder import OUTPUTS, RunFolder, teacher_folder
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import StageLog
from genkt.stages.cross_validation import Exam, choose, exams_of
from genkt.stages.irf import train_setting
from genkt.stages.teacher_cache import TeacherCache
from genkt.stages.teacher_scores import knows_classes, own_head_scores, scores_of
from genkt.stages.teacher_set import TeacherSet, shape_of
from genkt.stages.train_stage import train_supervised
from genkt.training.probe import OutputRows, PartStore, ProbedStore, fit_head
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost, Prediction, TeacherScores, require_finite


@dataclass(frozen=True)
class PreparedTeacher:
    """One teacher of a draw.

    Args:
        store: its cached outputs; None if it runs online.
        scores: on the test images.
        cost: of its training, or of its linear probe; what was counted before is not in it.
    """

    model: Backbone
    store: OutputRows | None
    how: str
    scores: TeacherScores = field(default_factory=TeacherScores)
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class AdaptationSettings:
    """How the teachers are adapted to the labels of a draw.

    Args:
        how: never "auto".
        online: they run on every batch, nothing is cached.
        teaches_logits: a student learns from their answers, class by class.
        seed: for heads without weights.
        train: settings of the training, if any.  head_lr: of its head (IRF).
    """

    how: Adaptation
    online: bool
    teaches_logits: bool
    seed: int
    train: TrainSettings
    head_lr: float

    @classmethod
    def of(cls, config: TransferConfig) -> AdaptationSettings:
        """As the settings of a run say."""
        short = config.adapt
        train = replace(
            config.train, steps=short.steps, lr=short.lr, batch_size=short.batch_size,
            labelled_per_batch=short.batch_size, ema=None, eval_every=0,
        )  # fmt: skip
        online = config.teacher.outputs == "online"
        teaches_logits = "logits" in config.needs
        return cls(
            config.adaptation, online, teaches_logits, config.seed, train, config.irf.head_lr
        )


@dataclass(frozen=True)
class Teachers:
    """Prepares the teachers of a run for one draw after the other.

    Args:
        factories: make fresh ones, one entry each.
        settings: how they are adapted.
        images: the images they are trained and tested on.
        pool: the images of all draws; the ``rows`` of the stores refer to them.
        represented: the labelled images and their reconstructions, where ``how`` is "irf".
        cache: keeps their outputs.
        folder: of the run, for files of one draw.
        exam: the fold whose labels they learn from; None: all labels of a draw.
        ways: how each is adapted, where that was chosen before.
    """

    factories: Sequence[ModelFactory]
    settings: AdaptationSettings
    images: RunImages
    pool: Pool
    represented: Represented | None
    cache: TeacherCache
    folder: RunFolder
    exam: Exam | None = None
    ways: tuple[str, ...] | None = None
    _bases: dict[int, Backbone] = field(default_factory=dict)
    _prepared: dict[int, tuple[TeacherSet, Cost]] = field(default_factory=dict)
    _counted: set[Path] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.factories)

    def for_exam(self, exam: Exam, ways: tuple[str, ...] | None = None) -> Teachers:
        """The same teachers, for what an exam's candidates learn from.

        Args:
            ways: how each is adapted.
        """
        if not exam.name:
            return replace(self, images=exam.images)
        return replace(self, images=exam.images, exam=exam, ways=ways, _prepared={})

    def base(self, index: int) -> Backbone:
        """An unadapted teacher, frozen, on the device; built once for the whole run.

        A head without weights is drawn from the run's seed.
        """
        if index not in self._bases:
            base = self.factories[index](None, self.settings.seed)
            self._bases[index] = base.freeze().to(self.images.fabric.device)
        return self._bases[index]

    def prepare(self, draw: Draw, log: StageLog) -> tuple[TeacherSet, Cost]:
        """The teachers of a draw, adapted to its labels if requested, with cached outputs.

        They are prepared once for all students of the draw; those of the last draw are kept.

        Args:
            draw: of its first student.
        """
        assert not draw.student
        if draw.index not in self._prepared:
            self._prepared.clear()
            self._prepared[draw.index] = self._new(draw, log)
        return self._prepared[draw.index]

    def forget(self) -> None:
        """Keep no prepared teachers: the files of the draw are going to be removed."""
        self._prepared.clear()
        self._counted.clear()

    def _new(self, draw: Draw, log: StageLog) -> tuple[TeacherSet, Cost]:
        """The same, prepared now.

        A teacher that is not fine-tuned is the same for every draw: its features are computed once
        for the whole run (and for every later run on the same images), and a linear probe is fitted
        on them without running the teacher again.
        """
        ways = self.ways or [self.settings.how] * len(self)
        found = [_WAYS[way](self, draw, index, log) for index, way in enumerate(ways)]
        models = tuple(each.model for each in found)
        num_classes = None if self.settings.how == "none" else self.images.num_classes
        teachers = TeacherSet(
            models=models,
            stores=tuple(each.store for each in found if each.store is not None),
            online=self.settings.online,
            shapes=tuple(shape_of(model, num_classes) for model in models),
            scores=tuple(each.scores for each in found),
            adapted=tuple(each.how for each in found),
        )
        return teachers, sum((each.cost for each in found), Cost())

    def frozen(
        self, draw: Draw, student: Backbone, *, online: bool
    ) -> tuple[Backbone, OutputRows | None, TeacherShape]:
        """The current student as an additional teacher of a draw: frozen, with cached outputs.

        Args:
            online: nothing is cached of the others either.
        """
        model = copy.deepcopy(student).freeze().to(self.images.fabric.device)
        shape = replace(shape_of(model), name=f"{student.name} before")
        return model, None if online else self._draw_store(draw, model), shape

    def fixed_outputs(
        self, draw: Draw, model: Backbone, rows: np.ndarray, *, survives: bool = False
    ) -> PartStore:
        """The current outputs of a model on some rows of a draw under the fixed view.

        Args:
            survives: images that can no longer be read are left out; else they are an error.
        """
        frozen, images = copy.deepcopy(model).freeze(), draw.images.select(rows)
        home = self._home(draw)
        store = self.cache.outputs(frozen, images, FIXED_VIEW, home, survives=survives)
        return PartStore(store, rows, len(draw.images), 1)

    def as_it_comes(self, draw: Draw, index: int, log: StageLog) -> PreparedTeacher:
        """An unadapted teacher; it may have no head for the task.

        Where it has one, it runs over the test images once for the whole run.
        """
        model, test = self.base(index), self.images.splits.parts["test"]
        store = None if self.settings.online else self._pool_store(index, model)
        taught = None
        if self.settings.teaches_logits and model.num_classes == self.images.num_classes:
            taught = scores_of(self._logits(index, model), test.labels)
        elif knows_classes(model, test):
            taught = own_head_scores(model, self._logits(index, model), test)
        return PreparedTeacher(model, store, "none", TeacherScores(taught))

    def probed(self, draw: Draw, index: int, log: StageLog) -> PreparedTeacher:
        """Fit a head on the labelled images' cached features."""
        base, (head, store) = self.base(index), self._head(draw, index)
        scores = self._all_scores(index, base, head)
        if not self.settings.online:
            kept = ProbedStore(store, head)
            return PreparedTeacher(base, kept, "linear_probe", scores, self._answers(draw))
        model = self.factories[index](self.images.num_classes, draw.seed_for("teacher head"))
        model.answer_by(head)
        model.freeze().to(self.images.fabric.device)
        return PreparedTeacher(model, None, "linear_probe", scores)

    def _head(self, draw: Draw, index: int) -> tuple[nn.Linear, OutputRows]:
        """A head that fits the labelled images' features, and the store of the features."""
        base = self.base(index)
        if self.settings.online:
            images = self.pool.images.select(draw.labelled)
            store: OutputRows = self.cache.outputs(base, images, FIXED_VIEW, self._fold_home())
            rows, num_views = np.arange(len(images)), 1
        else:
            store = self._pool_store(index, base)
            num_views = self.images.views.num_views
            rows = (draw.labelled[:, None] * num_views + np.arange(num_views)).reshape(-1)
        labels = np.repeat(draw.labels[draw.labelled], num_views)
        features = store.rows(rows, maps=False).features
        return fit_head(features, labels, self.images.num_classes, num_views), store

    def fine_tuned(self, draw: Draw, index: int, log: StageLog) -> PreparedTeacher:
        """Train the teacher on the labels; its cache belongs to this draw."""
        return self._with_outputs(draw, index, *self._trained(draw, index, log))

    def better(self, draw: Draw, index: int, log: StageLog) -> PreparedTeacher:
        """Linear probe, or fine-tuning where that is better by more than luck; both cost time."""
        trained: dict[str, tuple[Backbone, Cost]] = {}

        def judge(exam: Exam) -> tuple[Sequence[NDArray[np.float32]], Cost]:
            own = self.for_exam(exam)
            head, _ = own._head(exam.draw, index)
            model, cost = trained[exam.name] = own._trained(exam.draw, index, log)
            probe = own._probe_prediction(index, self.base(index), head)
            return [own.images.values(probe), own.images.judged(model)], cost

        tuned, cost = choose(exams_of(self.images, self.pool, draw), judge, default=0)
        probed = self.probed(draw, index, log)
        cost += probed.cost
        if not tuned:
            return replace(probed, cost=cost)
        if "" not in trained:  # only on folds so far
            trained[""] = self._trained(draw, index, log)
            cost += trained[""][1]
        kept = replace(probed.scores, taught=None)
        return self._with_outputs(draw, index, trained[""][0], cost, kept)

    def _trained(self, draw: Draw, index: int, log: StageLog) -> tuple[Backbone, Cost]:
        """A teacher that learns from the labels; one that has learned already costs nothing."""
        model = self.factories[index](self.images.num_classes, draw.seed_for("teacher head"))
        directory = self._home(draw, teacher_folder(index))
        cost = self._once(directory, self._adapt(draw, model, directory, log))
        return model.freeze().to(self.images.fabric.device), cost

    def _adapt(self, draw: Draw, teacher: Backbone, directory: Path, log: StageLog) -> Cost:
        """Fine-tune all of the teacher, or its head first on re-represented images (IRF).

        It is not validated: that would be a choice before the choice (``better``).
        """
        name, settings = f"adapt-{directory.name}", self.settings.train
        if self.settings.how == "irf":
            assert self.represented is not None
            costs, _ = train_setting(
                self.images, self.represented, draw, teacher, IRF_SETTINGS["irf"], settings,
                directory, log, head_lr=self.settings.head_lr, prefix=f"{name}-", validate=False,
            )  # fmt: skip
            return sum(costs.values(), Cost())
        cost, _ = train_supervised(
            self.images, draw, name, teacher, settings, directory, log, validate=False
        )
        return cost

    def _with_outputs(
        self, draw: Draw, index: int, model: Backbone, cost: Cost,
        scores: TeacherScores | None = None,
    ) -> PreparedTeacher:  # fmt: skip
        """A trained teacher.

        Args:
            scores: of what else was made of it.
        """
        taught = self.images.predictions(model, "test").scores
        store = None if self.settings.online else self._draw_store(draw, model)
        how = "irf" if self.settings.how == "irf" else "fine_tune"
        scores = replace(scores or TeacherScores(), taught=taught)
        return PreparedTeacher(model, store, how, scores, cost)

    def _answers(self, draw: Draw) -> Cost:
        """The answers that a linear probe is fitted to; those on a fold are those on its draw.

        What students ask for later counts where they do (``genkt.stages.asked_views``).
        """
        if self.settings.online or self.exam is not None:
            return Cost()
        return Cost(teacher_images=len(draw.labelled) * max(1, self.images.views.num_views))

    def _once(self, place: Path, cost: Cost) -> Cost:
        """A cost where it is met first: the folds of all choices of a draw share their teachers."""
        if place in self._counted:
            return Cost()
        self._counted.add(place)
        return cost

    def _all_scores(self, index: int, base: Backbone, head: nn.Linear) -> TeacherScores:
        """Of a probed teacher; the head that it came with costs no pass of its own."""
        probe, own = self._probe_scores(index, base, head), None
        test = self.images.splits.parts["test"]
        if knows_classes(base, test):
            own = own_head_scores(base, self._logits(index, base), test)
        return TeacherScores(probe, probe, own)

    def _probe_scores(self, index: int, base: Backbone, head: nn.Linear) -> NDArray[np.float32]:
        """[N] of a fitted head on the test images."""
        labels = self.images.splits.parts["test"].labels
        return scores_of(self._logits(index, base, head), labels)

    def _probe_prediction(self, index: int, base: Backbone, head: nn.Linear) -> Prediction:
        """Its answers; in float64, so that rounding makes no two of them equal."""
        images, logits = self.images.splits.parts["test"], self._logits(index, base, head)
        probabilities = logits.double().softmax(dim=1)
        return Prediction(images.ids, torch.from_numpy(images.labels), probabilities)

    def _logits(self, index: int, base: Backbone, head: nn.Linear | None = None) -> Tensor:
        """[N, C] on the test images, whose outputs are computed once for all draws.

        Args:
            head: in place of its own.
        """
        images, home = self.images.splits.parts["test"], self._fold_home()
        store: OutputRows
        if home is None:
            store = self.cache.shared(f"test{index}", base, images, FIXED_VIEW)
        else:
            store = self.cache.outputs(base, images, FIXED_VIEW, home)
        if head is not None:
            store = ProbedStore(store, head)
        found = store.rows(np.arange(len(images)), maps=False).logits
        assert found is not None
        which = "teacher" if head is None else "linear probe of"
        require_finite(found, images.ids, f"{which} {base.name}")
        return found

    def _pool_store(self, index: int, model: Backbone) -> OutputRows:
        return self.cache.shared(
            f"pool{index}", model, self.pool.images, self.images.views, trained_on=True
        )

    def _draw_store(self, draw: Draw, model: Backbone) -> PartStore:
        """Outputs on the images of one draw only; they are removed with its student."""
        views, pool = self.images.views, self.pool.images
        rows = np.union1d(draw.labelled, draw.transfer)
        images = pool.select(rows)
        store = self.cache.asked(model, images, views, self._home(draw))
        return PartStore(store, rows, len(pool), max(1, views.num_views))

    def _home(self, draw: Draw, name: str = OUTPUTS) -> Path:
        """A folder of a draw, or of the fold of it."""
        fold = f"-{self.exam.name}" if self.exam is not None else ""
        return self.folder.student(draw.index, f"{name}{fold}", draw.student)

    def _fold_home(self) -> Path | None:
        """The folder of outputs that only this fold reads; None outside of folds."""
        return None if self.exam is None else self._home(self.exam.draw)


_WAYS: Mapping[str, Callable[[Teachers, Draw, int, StageLog], PreparedTeacher]] = {
    "none": Teachers.as_it_comes,
    "linear_probe": Teachers.probed,
    "fine_tune": Teachers.fine_tuned,
    "better": Teachers.better,
    "irf": Teachers.fine_tuned,
}
