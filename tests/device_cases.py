"""What genkt does on a device, each as a function of the device; tests/test_device.py runs it.

A case returns tensors and numbers, which must be the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from method_cases import LABELS, B, C, draw, outputs, teachers
from prime_cases import prime_config
from test_deep_inversion import FEW
from test_deep_inversion import tiny_teacher as teacher_with_statistics
from test_masked import requests, transformer
from test_methods_alone import CASES as OBJECTIVES
from test_methods_alone import made
from tiny_generator import tiny_generator
from torch import Tensor
from training_cases import CLASSES, Case, pictures, tiny_resnet, weights

from genkt import losses
from genkt.data.images import from_arrays
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.generative.completer import CompletionOptions
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.deep_inversion import invert
from genkt.generative.perceptual import TeacherFeatures
from genkt.methods.base import Objective
from genkt.methods.self_supervised import SimCLR
from genkt.methods.source_classes import SourceClasses
from genkt.metrics.logme import logme
from genkt.retrieval.encoders import BackboneEncoder
from genkt.synthesis.filter_images import judge
from genkt.training.fabric import make_fabric
from genkt.training.loop import train
from genkt.training.predictions import outputs as outputs_of
from genkt.training.predictions import predict
from genkt.training.soup import average_weights, recalibrate_batch_norm
from genkt.training.teacher import cache_outputs
from genkt.types import ModelOutput
from genkt.upstream.generator.train_transformer import TransformerTraining
from genkt.upstream.generator.train_vqgan import VQGANTraining

DeviceCase = Callable[[str, Path], Any]
"""(device, an empty folder) -> tensors and numbers."""

EVERY_OBJECTIVE: list[tuple[type[Objective], dict[str, Any]]] = [
    *((kind, keywords) for kind, _, keywords in OBJECTIVES),
    (SimCLR, {"student_width": 6}),
    (SourceClasses, {"student_width": 6, "num_classes": C}),
]


def learning(output: ModelOutput, device: str) -> ModelOutput:
    """The output on the device, as what a student gives."""
    assert output.logits is not None and output.feature_map is not None
    parts = output.features, output.logits, output.feature_map
    return ModelOutput(*(part.to(device).requires_grad_() for part in parts))


def objective_steps(kind: type[Objective], keywords: dict[str, Any], device: str) -> Any:
    """Losses and gradients of two steps, and what is learned beside the student."""
    objective = made(kind, keywords).to(device)
    student = learning(outputs(6, 9), device)
    given = [learning(teacher, device) for teacher in teachers()]
    labels = (LABELS.clamp(min=0) if kind is SourceClasses else LABELS).to(device)
    samples = torch.arange(B).to(device)
    own, found = objective.own_optimizer(), []
    for _ in range(2):
        if objective.num_inner_steps:
            objective.inner_loss(student, given, labels).backward()
        parts = objective(student, given, labels, samples)
        parts["total"].backward()
        if own is not None:
            own.step()
        found.append(parts)
    return found, [part.grad for part in vars(student).values()], list(objective.parameters())


def objective_case(kind: type[Objective], keywords: dict[str, Any]) -> DeviceCase:
    return lambda device, _: objective_steps(kind, keywords, device)


def loss_calls(device: str) -> dict[str, Callable[[], Any]]:
    """A call of each loss that the package exports."""
    student, teacher, target = (draw(B, 5, seed=seed).to(device) for seed in range(3))
    square, maps = (student @ student.T).abs(), [draw(B, 5, 2, 3).to(device)]
    labels, samples = LABELS.to(device), torch.arange(B).to(device)
    winner = samples % 2
    weight, bias = draw(5, 5).to(device), draw(5).to(device)
    both = [teacher, target]
    images = (square * 20).to(torch.uint8)
    one = torch.zeros((), device=device)
    return {
        "estimate_log_normalizer": lambda: losses.estimate_log_normalizer(
            student, temperature=0.1, num_samples=9
        ),
        "info_nce": lambda: losses.info_nce(student, both, temperature=0.1),
        "memory_nce": lambda: losses.memory_nce(
            student, temperature=0.1, log_normalizer=one, num_samples=9
        ),
        "patch_cosine_distance": lambda: losses.patch_cosine_distance(maps[0], maps),
        "similarity_distillation": lambda: losses.similarity_distillation(student, both),
        "factor_distance": lambda: losses.factor_distance(student, teacher),
        "feature_regression": lambda: losses.feature_regression(
            student, teacher, weight=weight, bias=bias
        ),
        "reverse_feature_regression": lambda: losses.reverse_feature_regression(
            student, teacher, weight=weight, bias=bias
        ),
        "centred_unit_rows": lambda: losses.centred_unit_rows(both),
        "kernel_distance": lambda: losses.kernel_distance(square, square.T / 2),
        "linear_kernel": lambda: losses.linear_kernel(both),
        "rbf_kernel": lambda: losses.rbf_kernel(both),
        "tensor_product_kernel": lambda: losses.tensor_product_kernel(student, teacher),
        "cross_entropy": lambda: losses.cross_entropy(student, labels),
        "kl_distillation": lambda: losses.kl_distillation(student, both, temperature=2.0),
        "soft_target_cross_entropy": lambda: losses.soft_target_cross_entropy(student, both),
        "top_k_distillation": lambda: losses.top_k_distillation(student, both, top_k=2),
        "label_probability": lambda: losses.label_probability(student, labels),
        "largest_probability": lambda: losses.largest_probability(student),
        "merged_rows": lambda: losses.merged_rows(both, winner),
        "partitioned_distillation": lambda: losses.partitioned_distillation(student, both, winner),
        "partitioned_top_k_distillation": lambda: losses.partitioned_top_k_distillation(
            student, both, winner, top_k=2
        ),
        "winners": lambda: losses.winners([student[:, 0], teacher[:, 0]]),
        "rkd_angle": lambda: losses.rkd_angle(student, both),
        "rkd_distance": lambda: losses.rkd_distance(student, both),
        "unit_vectors": lambda: losses.unit_vectors(student),
        "adaptive_weight": lambda: losses.adaptive_weight(student, teacher),
        "codebook_perplexity": lambda: losses.codebook_perplexity(samples),
        "commitment_loss": lambda: losses.commitment_loss(student, teacher),
        "generator_adversarial_loss": lambda: losses.generator_adversarial_loss(student),
        "hinge_discriminator_loss": lambda: losses.hinge_discriminator_loss(student, teacher),
        "perceptual_distance": lambda: losses.perceptual_distance(maps, [maps[0] + 1]),
        "psnr": lambda: losses.psnr(images, images.flip(0)),
    }


def every_loss(device: str, _: Path) -> Any:
    return {name: call() for name, call in loss_calls(device).items()}


def some_pictures(count: int = 2, size: int = 16) -> tuple[Tensor, Tensor]:
    """uint8 [count, 3, size, size], and masks that hide a part of each."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    masks[:, : size // 2, : size // 2] = True
    return images, masks


def completions(sampling: Sampling, slack: float | None = None) -> DeviceCase:
    """Masked pictures completed; with a slack, every decision is made again in float64."""

    def complete(device: str, _: Path) -> Any:
        generator = tiny_generator().to(device)
        images, masks = some_pictures()
        if slack is not None:
            generator.completer.decoder("float32")._slack = slack  # type: ignore[union-attr]
        options = CompletionOptions(sampling, dilation=0, keep_visible=True)
        seeds = [[10 * row, 10 * row + 1] for row in range(len(images))]
        done = generator.complete_images(images, masks, seeds, options)
        if sampling.precision == "bfloat16":  # no promise that all devices draw alike
            return done.hidden
        return done.images.float() / 255, done.tokens, done.hidden

    return complete


def tokens_and_back(slack: float) -> DeviceCase:
    """A VQGAN on pictures that lie on the device; a large slack makes every token doubtful."""

    def reconstruct(device: str, _: Path) -> Any:
        vqgan = tiny_generator().vqgan.to(device)
        with patch("genkt.generative.vqgan._SLACK", slack):
            tokens = vqgan.encode(some_pictures()[0].to(device))
        return tokens, vqgan.decode(tokens)

    return reconstruct


def parallel_decoding(device: str, _: Path) -> Any:
    """A masked transformer; each row is computed again in float64, as the slack is large."""
    tokens, hidden, seeds = (part[1:] for part in requests(2))
    with patch("genkt.generative.masked.SLACK", 10.0):
        return (
            transformer(1)
            .to(device)
            .complete(tokens.to(device), hidden.to(device), seeds, Sampling(top_k=3))
        )


def inverted_pictures(device: str, _: Path) -> Any:
    teacher = teacher_with_statistics().to(device)
    return invert(teacher, torch.tensor([1, 3]), settings=replace(FEW, steps=2), seeds=[0, 1])


def perceptual_distances(device: str, _: Path) -> Any:
    teacher = tiny_resnet().freeze()
    a, b = (draw(2, 3, 20, 20, seed=seed).to(device).requires_grad_() for seed in (1, 2))
    distance = TeacherFeatures(teacher).to(device)(a, b)
    distance.backward()
    return distance, a.grad


def evaluation(device: str, _: Path) -> Any:
    """Predictions, features and a judge's answers on pictures."""
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, CLASSES, "tiny")
    model = tiny_resnet().freeze().to(device)
    dataset = ViewDataset(images, FIXED_VIEW, [model.transform])
    found = predict(model, dataset, device=device, batch_size=20)
    output = outputs_of(model, dataset, device=device, batch_size=20)
    answers = judge(model, torch.from_numpy(arrays[:3]).permute(0, 3, 1, 2))
    rows = dataset.batch([(0, 0), (1, 0)])[0].numpy()
    encoded = torch.from_numpy(BackboneEncoder(model, device).encode(rows))
    evidence = logme(output.features.to(device), torch.from_numpy(labels).to(device), 3).evidence
    return found.probabilities, output.features, output.logits, answers, encoded, evidence


def teacher_outputs(device: str, home: Path) -> Any:
    """The cache of a teacher's outputs, feature maps too."""
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, CLASSES, "tiny")
    store = cache_outputs(
        tiny_resnet().freeze(), images, home=home, dtype="float32", device=device, batch_size=20,
        outputs=["features", "logits", "feature_map"], progress=False,
    )  # fmt: skip
    found = store.rows(range(len(images)))
    return found.features, found.logits, found.feature_map


def soup(device: str, _: Path) -> Any:
    model, other = tiny_resnet().to(device), tiny_resnet(1).to(device)
    model.load_state_dict(average_weights([model.state_dict(), other.state_dict()]))
    images, _masks = some_pictures(6)
    recalibrate_batch_norm(model, [images[:3].to(device), images[3:].to(device)])
    return dict(model.state_dict())


class SomeUpstream:
    """Labelled pictures, the same in every step."""

    classes, skipped = CLASSES, ()

    def iterate(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(start, stop):
            yield some_pictures(8)[0], torch.arange(8) % len(CLASSES)

    def sample(self, num: int, seed: int) -> Tensor:
        return some_pictures(num)[0]


def priming(device: str, home: Path) -> Any:
    """A VQGAN with its discriminator, then a transformer over its tokens."""
    config = prime_config(home / "out", "vqgan.steps=2", "transformer.condition=class")
    settings, where = config.vqgan, torch.device(device)
    first = VQGANTraining(settings, SomeUpstream(), size=16, seed=0, device=where)
    found = [first.run_step() for _ in range(settings.steps)]
    vqgan = first.vqgan()
    second = TransformerTraining(config.transformer, vqgan, SomeUpstream(), seed=0, device=where)
    found += [second.run_step() for _ in range(2)]
    return found, vqgan.codebook


@contextmanager
def on_its_device(device: str) -> Iterator[Any]:
    """A Fabric for the device, even where it is none."""
    fabric = make_fabric("fp32", "cpu")
    states: list[Any] = []
    with (
        patch.object(fabric._strategy, "_root_device", torch.device(device)),
        patch.object(fabric._strategy.accelerator, "setup_device"),
        patch("genkt.training.loop.save_state", lambda path, state: states.append(state)),
        patch("genkt.training.loop.peak_memory", lambda device: 0),
    ):
        yield fabric


def training(method: str, online: bool = False, **changes: Any) -> DeviceCase:
    """A whole stage of training: steps, losses, evaluation, averages, states and weights."""

    def run(device: str, home: Path) -> Any:
        arrays, labels = pictures()
        images = from_arrays(arrays, labels, CLASSES, "tiny")

        def accuracy(model: Any) -> float:
            dataset = ViewDataset(images, FIXED_VIEW, [model.transform])
            return predict(model, dataset, device=device).accuracy

        with on_its_device(device) as fabric:
            case = Case(home, method, fabric=fabric, online=online, evaluate=accuracy)
            stage = case.with_settings(steps=3, eval_every=2, log_every=2, **changes).stage()
            for teacher in stage.online:
                teacher.to(device)
            _cost, curve = train(fabric, stage)
            return weights(stage), [{k: v for k, v in r.items() if k != "stage"} for r in curve]

    return run


DEVICE_CASES: dict[str, DeviceCase] = {
    **{
        f"{kind.__name__} {keywords}": objective_case(kind, keywords)
        for kind, keywords in EVERY_OBJECTIVE
    },
    "losses": every_loss,
    "completions": completions(Sampling(temperature=0.5)),
    "completions in bfloat16": completions(Sampling(precision="bfloat16")),
    "completions in float64": completions(Sampling(top_k=5, top_p=0.9), slack=1.0),
    "tokens and back": tokens_and_back(1e-5),
    "doubtful tokens and back": tokens_and_back(10.0),
    "parallel decoding": parallel_decoding,
    "deep inversion": inverted_pictures,
    "perceptual distance": perceptual_distances,
    "priming": priming,
    "evaluation": evaluation,
    "teacher outputs": teacher_outputs,
    "soup": soup,
    "training stl": training("stl", ema=0.9, optimizer="sgd"),
    "training kd": training("kd", accumulate=2, optimizer="adam", select="best"),
    "training bilevel": training("bilevel", clip_grad=None),
    "training crd": training("crd"),
    "training kl_dp online": training("kl_dp", online=True),
}
