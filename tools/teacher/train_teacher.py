"""Training the shipped teacher: a small ResNet on drawn glyphs, half of them on photographs.

No real digit is seen here. ``python tools/pretrain.py`` runs ``train_teacher`` with the settings of
``tools/teacher/pretrain.yaml``; ``embedded_card`` measures the result and writes its card.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from genkt.data.builtin.glyphs import CLASSES, GlyphBank, draw_bank, sample_glyphs
from genkt.data.builtin.photos import UPSTREAM_PHOTOS, photo_crops
from genkt.data.transform import ImageTransform
from genkt.io import derive_seed, fingerprint, read_json, write_bytes, write_json
from genkt.models.backbone import Backbone
from genkt.settings.bounds import (
    Count,
    CountOrNone,
    Depth,
    NotNegative,
    Rate,
    Seconds,
    Seed,
    Width,
)
from genkt.training.averages import AVERAGE_RULE, average_lists
from genkt.training.steps import StepReport, run_steps, warmup_cosine
from genkt.types import Range

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class TeacherSettings:
    """Settings of ``python tools/pretrain.py``; ``tools/teacher/pretrain.yaml`` holds the defaults.

    Args:
        layers, channels: blocks and widths of the four stages.
        input_size: side the 32x32 pictures are scaled to; more pixels keep early maps larger.
        steps, batch_size, lr, weight_decay, warmup: AdamW with a cosine after a linear warm-up
            (a share of the steps).
        label_smoothing: of the cross-entropy.  ema: decay of the averaged weights that are kept.
        on_photos: share of every batch that lies on photographs.
        num_crops: photograph crops drawn once.  num_written: copies of each handwritten form.
        precision: bf16 autocast or fp32.
        save_seconds: least time between resumable states.
        seed: of weights, glyphs, crops and batches.
    """

    layers: tuple[Depth, Depth, Depth, Depth]
    channels: tuple[Width, Width, Width, Width]
    input_size: Annotated[int, Range(32, 2**14)]
    steps: Count
    batch_size: Annotated[int, Range(2, 2**20)]  # batch norm has no statistics of one row
    lr: Rate
    weight_decay: NotNegative
    warmup: Annotated[float, Range(0, 1)]
    label_smoothing: Annotated[float, Range(0, 1)]
    ema: Annotated[float, Range(0, 1)]
    on_photos: Annotated[float, Range(0, 1)]
    num_crops: Count
    num_written: CountOrNone
    precision: Literal["bf16", "fp32"]
    save_seconds: Seconds
    seed: Seed


@dataclass(frozen=True)
class Upstream:
    """What batches are made of: glyphs, and photograph crops [P, 3, 32, 32] uint8."""

    bank: GlyphBank
    photos: Tensor


def build_teacher(settings: TeacherSettings) -> Backbone:
    """The untrained teacher with its own input transform; weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "teacher weights"))
        model = timm.create_model(
            "resnet18",
            layers=list(settings.layers),
            channels=list(settings.channels),
            num_classes=len(CLASSES),
        )
    size = (settings.input_size, settings.input_size)
    return Backbone(model, ImageTransform(size, HALF, HALF, "bilinear", 1.0), "digits_teacher")


def upstream(settings: TeacherSettings, device: torch.device | str) -> Upstream:
    """Draw the glyphs and cut the photographs: a few seconds, the same for the same seed."""
    bank = draw_bank(num_written=settings.num_written, seed=derive_seed(settings.seed, "forms"))
    crops = photo_crops(
        UPSTREAM_PHOTOS, settings.num_crops, seed=derive_seed(settings.seed, "crops")
    )
    photos = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
    return Upstream(bank.to(device), photos.to(device))


def as_input(pictures: Tensor, size: int) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1 -> the teacher's input, as its own transform makes it."""
    scaled = F.interpolate((pictures - 0.5) / 0.5, size=size, mode="bilinear", align_corners=False)
    return scaled.contiguous(memory_format=torch.channels_last)


class _Training:
    """Everything that changes from step to step (``genkt.training.steps.Steps``)."""

    def __init__(self, settings: TeacherSettings, data: Upstream, device: torch.device) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.backbone = build_teacher(settings).to(device).to(memory_format=torch.channels_last)
        self.model: nn.Module = self.backbone.model
        mean = average_lists(settings.ema)
        self.average = AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.generator = torch.Generator(device).manual_seed(derive_seed(settings.seed, "batches"))
        self.step, self.seconds = 0, 0.0

    def run_step(self) -> dict[str, float]:
        """One batch."""
        settings, data = self.settings, self.data
        factor = warmup_cosine(self.step, settings.steps, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * factor
        pictures, labels = sample_glyphs(
            data.bank,
            settings.batch_size,
            generator=self.generator,
            photos=data.photos,
            on_photos=settings.on_photos,
        )
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = self.model(as_input(pictures, settings.input_size))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return {"loss": loss.item()}

    def state(self) -> dict[str, Any]:
        """See ``Steps``."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See ``Steps``."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


def train_teacher(
    settings: TeacherSettings,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    data: Upstream | None = None,
    report: StepReport | None = None,
    stop_after: int | None = None,
) -> tuple[Backbone, float]:
    """Train the teacher; the same call continues an interrupted run to the same weights.

    Args:
        out: folder of the resumable state ``state.pt``.
        data: other glyphs or photographs than those of ``upstream(settings)``.
        report: told the steps done and the loss, once a step.
        stop_after: leave after so many steps of this call, the state saved.

    Returns:
        The averaged model, frozen, and the seconds that training took over all calls.

    Raises:
        UserError: ``out`` holds the state of other settings, or the loss is not finite.
    """
    where = torch.device(device)
    training = _Training(settings, data or upstream(settings, where), where)
    identity = fingerprint({**asdict(settings), "average": AVERAGE_RULE})
    run_steps(
        training, settings.steps, out / "state.pt", identity,
        save_seconds=settings.save_seconds, report=report, stop_after=stop_after,
    )  # fmt: skip
    training.model.load_state_dict(training.average.module.state_dict())
    teacher = training.backbone.to(memory_format=torch.contiguous_format)
    return teacher.freeze(), training.seconds


def save_teacher(teacher: Backbone, directory: Path) -> Path:
    """Write fp16 ``model.safetensors`` and ``config.json``: a folder that timm loads."""
    from safetensors.torch import load_file, save

    teacher.export(directory, CLASSES)
    config = read_json(directory / "config.json")
    described = config["pretrained_cfg"]
    for inherited in ("tag", "origin_url", "paper_ids"):  # of timm's own weights, not of these
        described.pop(inherited, None)
    described["license"] = "apache-2.0"
    write_json(directory / "config.json", config)
    weights = directory / "model.safetensors"
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in load_file(weights).items()
    }
    write_bytes(weights, save(half, {"format": "pt"}))
    return directory
