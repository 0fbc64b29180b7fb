"""Small students, teachers, images and stages that the tests of the training loop share."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genkt.data.images import from_arrays
from genkt.data.views import FIXED_VIEW, ImageTransform, ViewDataset, ViewSpec
from genkt.methods.aft import AFTOptions
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import METHODS as REGISTERED
from genkt.methods.build import build_objective
from genkt.methods.contrastive_distillation import CRDOptions
from genkt.methods.kd import L2FeatureOptions, LogitKDOptions
from genkt.methods.kl_dp import KLDPOptions
from genkt.methods.shapes import TeacherShape, TrainingRows
from genkt.methods.supervised import SupervisedOptions
from genkt.models.backbone import Backbone
from genkt.training.batches import Batches, BatchPlan
from genkt.training.fabric import make_fabric
from genkt.training.loop import train
from genkt.training.stage import Log, Stage
from genkt.training.teacher import cache_outputs
from genkt.training.train_settings import TrainSettings

HALF = (0.5, 0.5, 0.5)
TRANSFORM = ImageTransform((16, 16), HALF, HALF, "bilinear", 1.0)
NUM_IMAGES, NUM_LABELLED, CLASSES = 48, 16, ("a", "b", "c")
STL = SupervisedOptions("stl")
KD = LogitKDOptions("logit_kd", temperature=2.0, kl_weight=0.5)
AFT = AFTOptions(
    name="aft", beta=3.0, beta_grid=(3.0,), mu_lr=0.01, kernel="linear", mu="diagonal",
    no_kernel=False, bilevel=False, kernel_rows="all",
)  # fmt: skip
BILEVEL = dataclasses.replace(AFT, bilevel=True)
METHODS: dict[str, MethodOptions] = {
    "stl": STL, "kd": KD, "aft": AFT, "bilevel": BILEVEL, "l2": L2FeatureOptions("l2_feature"),
    "kl_dp": KLDPOptions("kl_dp", selection="unsupervised", temperature=1.0, top_k=None),
    "crd": CRDOptions(
        "crd", beta=0.8, num_negatives=20, momentum=0.5, temperature=0.07, dim=5
    ),
}  # fmt: skip
SETTINGS = TrainSettings(
    steps=6, epochs=None, batch_size=12, labelled_per_batch=4, optimizer="adamw", lr=1e-2,
    weight_decay=0.01, momentum=0.9, warmup=0.1, clip_grad=1.0, ema=None, ema_every=1,
    precision="fp32", accumulate=1, compile=False, select="last", eval_every=0, log_every=2,
    save_seconds=0.0, num_workers=0,
)  # fmt: skip


class TinyNet(nn.Module):
    """A classifier without batch norm."""

    def __init__(self, width: int = 8, num_classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.GroupNorm(1, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.stem(images)).relu()
        return self.head(self.dropout(maps.mean(dim=(2, 3))))


def tiny_net(seed: int = 0, width: int = 8, dropout: float = 0.0) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Backbone(TinyNet(width, dropout=dropout), TRANSFORM, f"tiny{width}")


def tiny_teacher() -> Backbone:
    return tiny_net(7, 6)


def tiny_resnet(seed: int = 0, **args: Any) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(
            "resnet18", layers=[1, 1, 1, 1], channels=[4, 4, 8, 8], num_classes=3, **args
        )
    return Backbone(model, TRANSFORM, "tiny resnet")


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 16, 16, 3] whose brightness in one channel is their class, and all labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(NUM_IMAGES) % len(CLASSES)
    images = rng.integers(0, 120, (NUM_IMAGES, 16, 16, 3), dtype=np.uint8)
    images[np.arange(NUM_IMAGES), :, :, labels] += 100
    return images, labels.astype(np.int64)


@dataclasses.dataclass
class Case:
    """What a stage is built from; every field may be replaced."""

    directory: Path
    method: str = "stl"
    settings: TrainSettings = SETTINGS
    student: Callable[[], Backbone] = tiny_net
    teacher: Callable[[], Backbone] = tiny_teacher
    online: bool = False
    views: ViewSpec = FIXED_VIEW
    seed: int = 3
    labelled_only: bool = False
    evaluate: Callable[[Backbone], float] | None = None
    log: Log | None = None
    head_only: bool = False
    fabric: Fabric | None = None

    def with_settings(self, **changes: Any) -> Case:
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

    def stage(self) -> Stage:
        arrays, labels = pictures()
        images = from_arrays(arrays, labels, CLASSES, "tiny")
        known = labels.copy()
        known[NUM_LABELLED:] = -1
        indices = np.arange(NUM_IMAGES)
        transfer = indices[NUM_LABELLED:] if not self.labelled_only else indices[:0]
        plan = BatchPlan(
            indices[:NUM_LABELLED], transfer, self.settings.batch_size,
            self.settings.labelled_per_batch, self.seed,
        )  # fmt: skip
        student, options = self.student(), METHODS[self.method]
        teachers = [] if self.method == "stl" else [self.teacher().freeze()]
        if REGISTERED[options.name].objective.needs_frozen:
            teachers.insert(0, copy.deepcopy(student).freeze())
        transforms = [TRANSFORM, *(t.transform for t in teachers if self.online)]
        stores = []
        if teachers and not self.online:
            home = self.directory / "cache"
            stores = [cache_outputs(t, images, self.views, home, dtype="float32") for t in teachers]
        self.fabric = self.fabric or make_fabric(self.settings.precision, "cpu")
        batches = Batches(
            ViewDataset(images, self.views, transforms), known, plan, stores,
            rank=self.fabric.global_rank, world_size=self.fabric.world_size,
            num_workers=int(self.settings.num_workers),
        )  # fmt: skip
        objective = self.objective(student, teachers, options)
        if objective.prepares:
            objective.prepare(TrainingRows(torch.from_numpy(known[batches.samples])))
        return Stage(
            "test", student, objective, batches, self.settings,
            self.directory / "stage", self.seed, teachers if self.online else (), self.evaluate,
            self.log, self.head_only,
        )  # fmt: skip

    def objective(
        self, student: Backbone, teachers: Sequence[Backbone], options: MethodOptions
    ) -> Objective:
        shapes = [TeacherShape(t.name, t.width, t.num_classes) for t in teachers]
        return build_objective(
            options, student_width=student.width, num_classes=3, teachers=shapes, seed=1
        )

    def run(self) -> tuple[Stage, list[dict[str, Any]]]:
        stage = self.stage()
        assert self.fabric is not None
        _, curve = train(self.fabric, stage)
        return stage, curve


def weights(stage: Stage) -> dict[str, Tensor]:
    """All that was trained: the student's and the objective's tensors."""
    own = {f"objective.{name}": value for name, value in stage.objective.state_dict().items()}
    return {**stage.student.state_dict(), **own}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor], atol: float = 0.0) -> None:
    """Equal names and values; bit for bit where ``atol`` is 0."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        if atol == 0.0:
            assert torch.equal(value, right[name]), name
        else:
            torch.testing.assert_close(value, right[name], rtol=0.0, atol=atol, msg=name)
