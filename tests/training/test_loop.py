"""The training loop: learning, precision, memory, selection, refusals."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from pathlib import Path

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file
from torch import Tensor
from training_cases import (
    METHODS,
    NUM_IMAGES,
    TRANSFORM,
    Case,
    TinyNet,
    assert_same,
    pictures,
    tiny_net,
    tiny_resnet,
    weights,
)

from genkt.data.images import from_arrays
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec
from genkt.models.backbone import Backbone
from genkt.progress import Reporter
from genkt.training.distiller import trainable
from genkt.training.fabric import make_fabric
from genkt.training.loop import train
from genkt.training.predictions import predict


def test_losses_fall_and_the_student_answers_right(tmp_path: Path) -> None:
    case = Case(tmp_path, labelled_only=True).with_settings(steps=60, lr=3e-2, log_every=10)
    stage, curve = case.run()
    assert curve[-1]["total"] < 0.5 * curve[0]["total"]
    assert [record["step"] for record in curve] == [10, 20, 30, 40, 50, 60]
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, ("a", "b", "c"), "tiny")
    prediction = predict(stage.student, ViewDataset(images, FIXED_VIEW, [TRANSFORM]))
    assert prediction.accuracy > 0.9 and not stage.student.training


def test_the_share_of_waiting_is_one_of_the_time_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(Reporter, "show", lambda _, **figures: shown.append(figures))
    Case(tmp_path).with_settings(steps=3, log_every=1).run()
    assert [0 <= int(each["waited"].rstrip("%")) <= 100 for each in shown] == [True] * 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_method_and_optimizer_moves_all_weights(
    tmp_path: Path, method: str, optimizer: str
) -> None:
    case = Case(tmp_path, method).with_settings(optimizer=optimizer, steps=3)
    values = weights(case.stage()).items()  # whole numbers are counters and tables, not weights
    before = {k: v.clone() for k, v in values if v.is_floating_point()}
    after = weights(case.run()[0])
    idle = ("model.head",) if method == "l2" else ()  # no label loss, nothing for the classifier
    moved = [name for name in before if not name.startswith(idle)]
    assert moved and all(not torch.equal(before[name], after[name]) for name in moved)


def test_num_workers_do_not_change_the_result(tmp_path: Path) -> None:
    views = ViewSpec(num_views=3, hflip=True)
    results = [
        weights(Case(tmp_path / str(n), "aft", views=views).with_settings(num_workers=n).run()[0])
        for n in (0, 2)
    ]
    assert_same(*results)


@pytest.mark.parametrize("method", ["kd", "aft", "bilevel"])
@pytest.mark.parametrize("num_views", [1, 3])
def test_online_teachers_equal_cached_ones(tmp_path: Path, method: str, num_views: int) -> None:
    views = ViewSpec(num_views=num_views, hflip=num_views > 1)
    case = Case(tmp_path / "cached", method, views=views)
    cached = case.run()[0]
    online = dataclasses.replace(case, directory=tmp_path / "online", online=True).run()[0]
    assert_same(weights(cached), weights(online), atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 5])
def test_micro_batches_equal_the_whole_batch(tmp_path: Path, accumulate: int) -> None:
    """Adam would magnify rounding of tiny gradients, hence SGD; 12 rows in 5 parts are uneven."""
    case = Case(tmp_path / "one", labelled_only=True).with_settings(optimizer="sgd", lr=0.1)
    whole = case.run()[0]
    parts = dataclasses.replace(case, directory=tmp_path / "parts").with_settings(
        accumulate=accumulate
    )
    assert_same(weights(whole), weights(parts.run()[0]), atol=1e-6)


class Greedy(TinyNet):
    """Runs out of memory above so many images."""

    most = 3

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > self.most:
            raise torch.OutOfMemoryError("pretended")
        return super().forward(images)


def greedy(most: int) -> Backbone:
    torch.manual_seed(0)
    model = Backbone(Greedy(), TRANSFORM, "greedy")
    model.model.most = most  # type: ignore[assignment]
    return model


def test_out_of_memory_backs_off_and_gives_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(tmp_path / "back", labelled_only=True, student=lambda: greedy(3))
    case = case.with_settings(optimizer="sgd", lr=0.1)
    backed_off = case.run()[0]
    assert "out of memory; continuing with micro-batches of 3 images" in capsys.readouterr().err
    plenty = dataclasses.replace(case, directory=tmp_path / "plenty", student=lambda: greedy(99))
    assert_same(weights(backed_off), weights(plenty.run()[0]), atol=1e-6)


@pytest.mark.parametrize(("method", "most"), [("stl", 0), ("aft", 2)])
def test_out_of_memory_that_cannot_be_helped_is_refused(
    tmp_path: Path, method: str, most: int
) -> None:
    with refused("train.batch_size"):
        Case(tmp_path, method, student=lambda: greedy(most)).run()


def test_too_many_micro_batches_are_refused(tmp_path: Path) -> None:
    with refused(3, 6):
        Case(tmp_path, "aft").with_settings(accumulate=6).run()


class Breaking(TinyNet):
    """NaN in the loss, or only in the gradients, from the fifth training pass on."""

    passes = 0
    only_gradients = False

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        self.passes += self.training
        if self.passes < 5:
            return logits
        if self.only_gradients:
            return logits + (0 * logits).abs().sqrt()  # 0 forward, infinity times 0 backward
        return logits * math.nan


@pytest.mark.parametrize("only_gradients", [False, True])
@pytest.mark.parametrize(("log_every", "clip"), [(1, 1.0), (0, 1.0), (3, None)])
def test_nan_stops_with_step_and_ids_and_leaves_a_finite_state(
    tmp_path: Path, only_gradients: bool, log_every: int, clip: float | None
) -> None:
    def student() -> Backbone:
        torch.manual_seed(0)
        model = Backbone(Breaking(), TRANSFORM, "breaking")
        model.model.only_gradients = only_gradients  # type: ignore[assignment]
        return model

    case = Case(tmp_path, student=student)
    case = case.with_settings(log_every=log_every, clip_grad=clip, steps=50)
    ids = case.stage().batches.step_ids(4)
    with refused("step 4") as caught:
        case.run()
    assert ids[0] in str(caught.value) and "\n" not in str(caught.value)
    state = torch.load(tmp_path / "stage" / "state.pt", weights_only=True)
    assert state["progress"]["step"] == 4
    assert all(value.isfinite().all() for value in state["distiller"].values())


@pytest.mark.parametrize("method", ["kd", "kl_dp"])
def test_batch_norm_of_frozen_models_never_moves(tmp_path: Path, method: str) -> None:
    case = Case(tmp_path, method, online=True, student=tiny_resnet, teacher=lambda: tiny_resnet(1))
    stage = case.stage()
    first = {name: value.clone() for name, value in stage.student.state_dict().items()}
    before = [copy.deepcopy(model.state_dict()) for model in stage.online]
    assert len(before) == (2 if method == "kl_dp" else 1)
    train(make_fabric("fp32", "cpu"), stage)
    for model, state in zip(stage.online, before, strict=True):
        assert_same(dict(model.state_dict()), dict(state))
    after = stage.student.state_dict()
    moved = {name for name in first if not torch.equal(first[name], after[name])}
    assert moved == set(first)  # the student's own does, so the test would see it


def test_kl_dp_keeps_the_student_where_it_is_the_surest(tmp_path: Path) -> None:
    """Every row is the frozen student's: nothing is learned, the teacher teaches nothing."""

    def unsure() -> Backbone:
        model = tiny_net(7, 6)
        with torch.no_grad():
            for parameter in model.classifier_parameters():
                parameter.zero_()
        return model

    case = Case(tmp_path, "kl_dp", teacher=unsure).with_settings(weight_decay=0.0, optimizer="sgd")
    before = case.stage().student.state_dict()
    stage, curve = case.run()
    assert_same(before, stage.student.state_dict(), atol=1e-5)
    assert all(record["taught"] == 0 for record in curve)


@pytest.mark.parametrize("select", ["last", "best"])
def test_selection_of_best_and_last(tmp_path: Path, select: str) -> None:
    accuracies = iter([0.2, 0.9, 0.4])
    kept: list[Tensor] = []

    def evaluate(model: Backbone) -> float:
        kept.append(model.state_dict()["model.head.weight"].clone())
        return next(accuracies)

    case = Case(tmp_path, evaluate=evaluate).with_settings(select=select, eval_every=2)
    stage, curve = case.run()
    last = load_file(tmp_path / "stage" / "last.safetensors")["head.weight"]
    best = load_file(tmp_path / "stage" / "best.safetensors")["head.weight"]
    assert torch.equal(best, kept[1]) and torch.equal(last, kept[2])
    wanted = kept[1] if select == "best" else kept[2]
    assert torch.equal(weights(stage)["model.head.weight"], wanted)
    measured = [r["validation_accuracy"] for r in curve if "validation_accuracy" in r]
    assert measured == [0.2, 0.9, 0.4]


def test_best_without_validation_returns_the_last(tmp_path: Path) -> None:
    last = weights(Case(tmp_path / "a").run()[0])
    (tmp_path / "b" / "stage").mkdir(parents=True)
    (tmp_path / "b" / "stage" / "best.safetensors").write_bytes(b"of another run")
    assert_same(last, weights(Case(tmp_path / "b").with_settings(select="best").run()[0]))


def test_a_linear_probe_trains_the_head_alone_and_restores_the_student(tmp_path: Path) -> None:
    before = tiny_resnet().state_dict()
    stage, _ = Case(tmp_path, student=tiny_resnet, head_only=True).run()
    changed = {k for k, v in stage.student.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"model.fc.weight", "model.fc.bias"}
    assert all(p.requires_grad for p in stage.student.parameters())
    assert stage.student.train().training and not stage.student.frozen


def test_a_failed_linear_probe_restores_the_student() -> None:
    student = tiny_net()
    with pytest.raises(ZeroDivisionError), trainable(student, True):
        assert not student.train().training
        raise ZeroDivisionError
    assert student.train().training and all(p.requires_grad for p in student.parameters())


def test_evaluation_moves_neither_mode_nor_random_state_nor_result(tmp_path: Path) -> None:
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, ("a", "b", "c"), "tiny")
    dataset = ViewDataset(images, FIXED_VIEW, [TRANSFORM])
    student = functools.partial(tiny_resnet, drop_rate=0.3)
    model = student()
    for mode in (True, False):
        model.train(mode)
        before, random_state = model.state_dict(), torch.get_rng_state()
        prediction = predict(model, dataset, batch_size=20, num_workers=0)
        assert model.training is mode and torch.equal(torch.get_rng_state(), random_state)
        assert_same(before, model.state_dict())
    assert prediction.probabilities.shape == (NUM_IMAGES, 3)
    assert torch.equal(prediction.probabilities.sum(1).round(decimals=5), torch.ones(NUM_IMAGES))

    def evaluate(trained: Backbone) -> float:
        torch.rand(5)
        trained.eval()  # a careless caller
        return predict(trained, dataset).accuracy

    without = Case(tmp_path / "a", student=student)
    measured = dataclasses.replace(without, directory=tmp_path / "b", evaluate=evaluate)
    random_state = torch.get_rng_state()
    assert_same(weights(without.run()[0]), weights(measured.with_settings(eval_every=1).run()[0]))
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_autocast_keeps_cached_outputs_and_learns(tmp_path: Path, method: str) -> None:
    case = Case(tmp_path / "bf16", method).with_settings(precision="bf16")
    narrow = weights(case.run()[0])
    wide = weights(Case(tmp_path / "fp32", method).run()[0])
    assert {v.dtype for v in narrow.values() if v.is_floating_point()} == {torch.float32}
    distance = max((narrow[name] - wide[name]).abs().max().item() for name in wide)
    assert 0 < distance < 0.1
    # What the objective gets from a teacher is not narrowed on the way in.
    stage = dataclasses.replace(case, directory=tmp_path / "see").stage()
    if method == "stl":
        return
    seen: list[torch.dtype] = []
    stage.objective.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[1][0].features.dtype)
    )
    train(make_fabric("bf16", "cpu"), stage)
    assert set(seen) == {torch.float32}


def test_compiled_training_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the compiler's front end alone: the code generator needs a C++ compiler."""
    plain = weights(Case(tmp_path / "plain", "aft", student=tiny_resnet).run()[0])
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    case = Case(tmp_path / "compiled", "aft", student=tiny_resnet).with_settings(compile=True)
    assert_same(plain, weights(case.run()[0]), atol=1e-6)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    def moved(clip: float | None) -> float:
        case = Case(tmp_path / str(clip)).with_settings(
            optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, warmup=0.0, steps=1,
            clip_grad=clip,
        )  # fmt: skip
        before = dict(case.stage().student.named_parameters())
        after = dict(case.run()[0].student.named_parameters())
        return math.sqrt(sum((after[n] - before[n]).square().sum().item() for n in before))

    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-3) and moved(None) > 1e-2


def test_epochs_count_passes_over_the_transfer_images(tmp_path: Path) -> None:
    case = Case(tmp_path).with_settings(steps=None, epochs=2.0)
    stage, curve = case.run()
    assert curve[-1]["step"] == math.ceil(2 * 32 / 8)  # 8 of 12 rows are transfer images
    rows = [row for step in range(8) for row in stage.batches.plan.rows(step)[:, 0]]
    counts = [rows.count(index) for index in range(16, NUM_IMAGES)]
    assert set(counts) == {2}
    labelled = Case(tmp_path / "labelled", labelled_only=True).with_settings(steps=None, epochs=1.5)
    assert labelled.run()[1][-1]["step"] == 2
    with refused(key="train.steps, train.epochs"):
        case.with_settings(epochs=None).run()


def test_no_steps_leave_the_student_as_it_was(tmp_path: Path) -> None:
    before = tiny_net().state_dict()
    stage, curve = Case(tmp_path).with_settings(steps=0, ema=0.9).run()
    assert not curve
    assert_same(before, stage.student.state_dict())


def test_frozen_students_are_refused(tmp_path: Path) -> None:
    with refused("student", "frozen"):
        Case(tmp_path, student=lambda: tiny_net().freeze()).run()


def test_devices_and_precisions_that_are_not_there() -> None:
    with refused("cuad", key="device"):
        make_fabric("fp32", "cuad")
    with refused("fp16", "CUDA"):
        make_fabric("fp16", "cpu")
    if not torch.cuda.is_available():
        with refused("device", "cuda"):
            make_fabric("fp32", "cuda")


def test_a_steady_stage_goes_on_for_more_steps_as_if_it_had_them_from_the_start(
    tmp_path: Path,
) -> None:
    found = []
    for lengths in ((3, 6), (6,)):
        case = Case(tmp_path / str(len(lengths)), "kd").with_settings(ema=0.9, warmup=0.0)
        for steps in lengths:
            stage = dataclasses.replace(case.with_settings(steps=steps).stage(), is_steady=True)
            cost, _ = train(make_fabric(), stage)
            assert cost.steps == steps
        found.append(stage.student.fingerprint())
    assert found[0] == found[1]


def test_a_stage_that_is_not_steady_keeps_its_length(tmp_path: Path) -> None:
    case = Case(tmp_path, "kd")
    train(make_fabric(), case.with_settings(steps=3).stage())
    with refused("state.pt"):
        train(make_fabric(), case.with_settings(steps=6).stage())
